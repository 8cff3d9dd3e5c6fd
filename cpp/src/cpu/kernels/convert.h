// Conversion of one element between any two storage types, as `copy` defines it: float to integer
// truncates, to bool tests != 0, floats round to nearest even once. A number outside an integer's
// range gives an unspecified integer.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd/float16_convert.h"
#include "simd/vec.h"
#include "tempra/dtype.h"

namespace tempra::cpu::TEMPRA_ISA {

// Storage type of DType::boolean, told apart from u8.
struct Boolean {
    std::uint8_t value;
};

// double to bf16 in one rounding: the float in between is rounded to odd, which leaves the
// information that the second rounding needs.
inline bfloat16 double_to_bfloat16(double value) {
    const float nearest = static_cast<float>(value);
    const double back = static_cast<double>(nearest);
    std::uint32_t raw;
    std::memcpy(&raw, &nearest, sizeof(raw));
    const double size = value < 0 ? -value : value, back_size = back < 0 ? -back : back;
    const std::uint32_t odd = (raw - static_cast<std::uint32_t>(back_size > size)) | 1U;
    raw = back != value && value == value ? odd : raw;
    float sticky;
    std::memcpy(&sticky, &raw, sizeof(sticky));
    return bfloat16::from_float(sticky);
}

template <class From>
inline auto to_number(From value) {
    if constexpr (__is_same(From, bfloat16)) {
        return to_arithmetic(value);
    } else if constexpr (__is_same(From, float16)) {
        return float16_to_float(value);
    } else if constexpr (__is_same(From, Boolean)) {
        return static_cast<std::uint8_t>(value.value != 0);
    } else {
        return value;
    }
}

template <class To, class From>
inline To convert(From from) {
    const auto value = to_number(from);
    using Number = decltype(to_number(from));
    if constexpr (__is_same(To, Boolean)) {
        return {static_cast<std::uint8_t>(value != 0)};
    } else if constexpr (__is_same(To, bfloat16)) {
        if constexpr (__is_same(Number, float)) {
            return bfloat16::from_float(value);
        } else {
            return double_to_bfloat16(static_cast<double>(value));
        }
    } else if constexpr (__is_same(To, float16)) {
        return float_to_float16(static_cast<float>(value));
    } else if constexpr (__is_same(Number, float) || __is_same(Number, double)) {
        // Small integers through a wider signed one, so that every instruction set wraps alike.
        if constexpr (__is_same(To, std::uint32_t)) {
            return static_cast<To>(static_cast<std::int64_t>(value));
        } else if constexpr (__is_same(To, std::uint16_t) || __is_same(To, std::uint8_t)) {
            return static_cast<To>(static_cast<std::int32_t>(value));
        } else {
            return static_cast<To>(value);
        }
    } else {
        return static_cast<To>(value);
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
