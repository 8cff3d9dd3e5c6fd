// Which numbers an integer dtype can hold.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "tempra/dtype.h"
#include "tempra/error.h"

namespace tempra {

struct IntegerRange {
    std::int64_t lowest = 0;
    std::int64_t highest = 0;
};

// Of an integer dtype.
[[nodiscard]] constexpr IntegerRange range_of(DType dtype) {
    switch (dtype) {
        case DType::i32: return {INT32_MIN, INT32_MAX};
        case DType::u32: return {0, UINT32_MAX};
        case DType::u16: return {0, UINT16_MAX};
        case DType::u8: return {0, UINT8_MAX};
        default: return {INT64_MIN, INT64_MAX};
    }
}

// Whether a number, its fraction cut off, is one of the dtype's; floating dtypes hold nan and
// infinity too, and of bool anything is true or false.
[[nodiscard]] inline bool is_representable(double value, DType dtype) {
    if (is_floating(dtype) || dtype == DType::boolean) return true;
    const IntegerRange range = range_of(dtype);
    // 2^63 is a double, 2^63 - 1 is none.
    const double beyond =
        range.highest == INT64_MAX ? 0x1p63 : static_cast<double>(range.highest) + 1;
    const double whole = std::trunc(value);
    return whole >= static_cast<double>(range.lowest) && whole < beyond;
}

// DtypeError, naming `operation`, for a number that the dtype cannot hold.
inline void check_representable(const char* operation, double value, DType dtype) {
    if (is_representable(value, dtype)) return;
    const IntegerRange range = range_of(dtype);
    throw DtypeError(format("{}: {} given; {} holds whole numbers from {} to {}", operation, value,
                            dtype, range.lowest, range.highest));
}

}  // namespace tempra
