// IEEE binary16 to and from float, in integer operations that compilers vectorise, so that every
// instruction set gives the same bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "tempra/dtype.h"

namespace tempra::cpu::TEMPRA_ISA {

inline float float16_to_float(float16 value) {
    const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
    const std::uint32_t magnitude = value.bits & 0x7FFFU;
    // Normal numbers, infinity and NaN: shift, then move the exponent's bias from 15 to 127.
    std::uint32_t raw = (magnitude << 13) + ((127U - 15U) << 23);
    if (magnitude >= 0x7C00U) raw += (255U - 31U - (127U - 15U)) << 23;
    if (magnitude > 0x7C00U) raw |= 0x400000U;  // NaN: quiet
    // Subnormal numbers count units of 2^-24.
    const float small = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F;
    float normal;
    std::memcpy(&normal, &raw, sizeof(normal));
    const float absolute = magnitude < 0x0400U ? small : normal;
    std::memcpy(&raw, &absolute, sizeof(raw));
    raw |= sign;
    float result;
    std::memcpy(&result, &raw, sizeof(result));
    return result;
}

inline float16 float_to_float16(float value) {
    std::uint32_t raw;
    std::memcpy(&raw, &value, sizeof(raw));
    const std::uint32_t sign = (raw >> 16) & 0x8000U;
    const std::uint32_t magnitude = raw & 0x7FFFFFFFU;
    // Normal results: re-bias, then round the 13 lost bits to nearest even.
    const std::uint32_t biased = magnitude - ((127U - 15U) << 23);
    std::uint32_t half = (biased + 0xFFFU + ((biased >> 13) & 1U)) >> 13;
    // Subnormal results: adding 0.5 aligns the last place to 2^-24 and rounds.
    float absolute;
    std::memcpy(&absolute, &magnitude, sizeof(absolute));
    const float aligned = absolute + 0.5F;
    std::uint32_t aligned_raw;
    std::memcpy(&aligned_raw, &aligned, sizeof(aligned_raw));
    if (magnitude < 0x38800000U) half = aligned_raw - 0x3F000000U;  // below 2^-14
    if (magnitude >= 0x477FF000U) half = 0x7C00U;                   // 65520 and above: infinity
    if (magnitude > 0x7F800000U) half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
    return {static_cast<std::uint16_t>(sign | half)};
}

}  // namespace tempra::cpu::TEMPRA_ISA
