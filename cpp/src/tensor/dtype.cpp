#include "tempra/dtype.h"

namespace tempra {

// Round to nearest even; overflow gives infinity, NaN stays NaN.
float16 float16::from_float(float value) {
    const std::uint32_t raw = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (raw >> 16) & 0x8000U;
    const std::uint32_t magnitude = raw & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return {static_cast<std::uint16_t>(sign | 0x7E00U)};
    if (magnitude >= 0x47800000U) return {static_cast<std::uint16_t>(sign | 0x7C00U)};  // >= 65536
    if (magnitude < 0x38800000U) {
        // Subnormal: adding 0.5 leaves round(value * 2^24) in the low mantissa bits.
        const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
        return {static_cast<std::uint16_t>(sign |
                                           (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U))};
    }
    const std::uint32_t odd = (magnitude >> 13) & 1U;
    const std::uint32_t rounded = magnitude - 0x38000000U + 0xFFFU + odd;
    return {static_cast<std::uint16_t>(sign | (rounded >> 13))};
}

float float16::to_float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1FU;
    const std::uint32_t mantissa = bits & 0x3FFU;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
    if (exponent == 0) {
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace tempra
