// Bounds of random numbers, as on the CPU. Plain C++ and host-tested.
#pragma once

#include <bit>
#include <cstdint>

#include "tempra/dtype.h"

namespace tempra::cuda {

// The largest fp32 (or bf16) number below `bound`.
[[nodiscard]] inline float largest_below(double bound, bool is_bf16) {
    float value = static_cast<float>(bound);
    if (is_bf16) value = bfloat16::from_float(value).to_float();
    if (static_cast<double>(value) < bound) return value;
    const std::uint32_t unit = is_bf16 ? 0x10000U : 1U;
    const std::uint32_t raw = std::bit_cast<std::uint32_t>(value);
    if (value == 0) return std::bit_cast<float>(0x80000000U + unit);
    return std::bit_cast<float>(value > 0 ? raw - unit : raw + unit);
}

}  // namespace tempra::cuda
