// Element types and the 16-bit floating-point storage types.
#pragma once

#include <bit>
#include <cstdint>
#include <ostream>

namespace tempra {

enum class DType : std::uint8_t { f32, bf16, f16, f64, i64, i32, u32, u16, u8, boolean };

// Brain floating point: the upper half of an IEEE binary32.
struct bfloat16 {
    std::uint16_t bits;

    [[nodiscard]] static constexpr bfloat16 from_float(float value) {
        const std::uint32_t raw = std::bit_cast<std::uint32_t>(value);
        // NaN stays a (quiet) NaN instead of rounding to infinity.
        if ((raw & 0x7FFFFFFFU) > 0x7F800000U) {
            return {static_cast<std::uint16_t>((raw >> 16) | 0x40U)};
        }
        const std::uint32_t rounded = raw + 0x7FFFU + ((raw >> 16) & 1U);
        return {static_cast<std::uint16_t>(rounded >> 16)};
    }
    [[nodiscard]] constexpr float to_float() const {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
};

// IEEE binary16, storage and conversion only.
struct float16 {
    std::uint16_t bits;

    [[nodiscard]] static float16 from_float(float value);
    [[nodiscard]] float to_float() const;
};

[[nodiscard]] constexpr std::int64_t size_of(DType dtype) {
    switch (dtype) {
        case DType::f64:
        case DType::i64: return 8;
        case DType::f32:
        case DType::i32:
        case DType::u32: return 4;
        case DType::bf16:
        case DType::f16:
        case DType::u16: return 2;
        case DType::u8:
        case DType::boolean: return 1;
    }
    return 0;
}

[[nodiscard]] constexpr bool is_floating(DType dtype) {
    return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16 ||
           dtype == DType::f64;
}

[[nodiscard]] constexpr const char* name_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return "f32";
        case DType::bf16: return "bf16";
        case DType::f16: return "f16";
        case DType::f64: return "f64";
        case DType::i64: return "i64";
        case DType::i32: return "i32";
        case DType::u32: return "u32";
        case DType::u16: return "u16";
        case DType::u8: return "u8";
        case DType::boolean: return "bool";
    }
    return "?";
}

inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

}  // namespace tempra
