// A number as the bits of any element type, for fills. Plain C++ and host-tested.
#pragma once

#include <bit>
#include <cstdint>

#include "tempra/dtype.h"

namespace tempra::cuda {

// binary32 to binary16, to nearest even; NaN stays NaN.
[[nodiscard]] constexpr std::uint16_t float16_bits(float value) {
    const std::uint32_t raw = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((raw >> 16) & 0x8000U);
    const std::uint32_t magnitude = raw & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
    if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7C00U);
    if (magnitude < 0x33000000U) return sign;  // below half of the smallest subnormal
    std::uint32_t exponent = magnitude >> 23, mantissa = (magnitude & 0x7FFFFFU) | 0x800000U;
    std::uint32_t shift = 13, result = 0;
    if (exponent < 113) {
        shift += 113 - exponent;  // subnormal
    } else {
        result = (exponent - 113) << 10;
    }
    const std::uint32_t half = 1U << (shift - 1);
    const std::uint32_t rest = mantissa & ((1U << shift) - 1);
    mantissa >>= shift;
    if (rest > half || (rest == half && (mantissa & 1U) != 0)) ++mantissa;
    return static_cast<std::uint16_t>(sign | (result + mantissa));
}

[[nodiscard]] constexpr float float16_value(std::uint16_t bits) {
    const std::uint32_t sign = (bits & 0x8000U) << 16, exponent = bits >> 10 & 0x1FU;
    const std::uint32_t mantissa = bits & 0x3FFU;
    if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | mantissa << 13);
    if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
}

// As a cast from double gives it: floats rounded, integers truncated, bool != 0.
[[nodiscard]] constexpr std::uint64_t element_bits(DType dtype, double value) {
    switch (dtype) {
        case DType::f32: return std::bit_cast<std::uint32_t>(static_cast<float>(value));
        case DType::bf16: return bfloat16::from_float(static_cast<float>(value)).bits;
        case DType::f16: return float16_bits(static_cast<float>(value));
        case DType::f64: return std::bit_cast<std::uint64_t>(value);
        case DType::boolean: return value != 0.0 ? 1 : 0;
        case DType::i64: return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
        case DType::i32: return static_cast<std::uint32_t>(static_cast<std::int32_t>(value));
        case DType::u32: return static_cast<std::uint32_t>(static_cast<std::int64_t>(value));
        case DType::u16: return static_cast<std::uint16_t>(static_cast<std::int64_t>(value));
        case DType::u8: return static_cast<std::uint8_t>(static_cast<std::int64_t>(value));
    }
    return 0;
}

}  // namespace tempra::cuda
