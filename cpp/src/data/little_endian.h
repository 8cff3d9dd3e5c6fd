// Unaligned little-endian numbers in bytes from a file.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace tempra::data {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

// The bytes must be there: callers check.
template <class Number>
[[nodiscard]] Number load(std::span<const std::byte> bytes, size_t offset) {
    static_assert(std::is_arithmetic_v<Number>);
    Number value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

template <class Number>
void store(std::byte* out, size_t offset, Number value) {
    static_assert(std::is_arithmetic_v<Number>);
    std::memcpy(out + offset, &value, sizeof value);
}

}  // namespace tempra::data
