// Bounds of random numbers, as on the CPU. Plain C++ and host-tested.
#pragma once

#include <bit>
#include <cstdint>

#include "element_bits.h"
#include "tempra/dtype.h"

namespace tempra::cuda {

// The largest number of this dtype (f32, bf16 or f16) below `bound`.
[[nodiscard]] inline float largest_below(double bound, DType dtype) {
    float value = static_cast<float>(bound);
    const bool is_bf16 = dtype == DType::bf16;
    if (is_bf16) value = bfloat16::from_float(value).to_float();
    if (dtype == DType::f16) value = float16_value(float16_bits(value));
    if (static_cast<double>(value) < bound) return value;
    if (dtype == DType::f16) {
        const std::uint16_t bits = float16_bits(value);
        if (value == 0) return float16_value(0x8001U);
        return float16_value(static_cast<std::uint16_t>(value > 0 ? bits - 1 : bits + 1));
    }
    const std::uint32_t unit = is_bf16 ? 0x10000U : 1U;
    const std::uint32_t raw = std::bit_cast<std::uint32_t>(value);
    if (value == 0) return std::bit_cast<float>(0x80000000U + unit);
    return std::bit_cast<float>(value > 0 ? raw - unit : raw + unit);
}

}  // namespace tempra::cuda
