// What reading and writing safetensors files share.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "tempra/dtype.h"

namespace tempra::io {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

inline constexpr std::int64_t kSafetensorsLengthBytes = 8;
inline constexpr std::int64_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

struct SafetensorsDType {
    std::string_view name;
    DType dtype;
};
// Written in this order, the safetensors library's own (it sorts its dtypes, widest first).
inline constexpr SafetensorsDType kSafetensorsDTypes[] = {
    {"I64", DType::i64}, {"F64", DType::f64},      {"F32", DType::f32}, {"U32", DType::u32},
    {"I32", DType::i32}, {"BF16", DType::bf16},    {"F16", DType::f16}, {"U16", DType::u16},
    {"U8", DType::u8},   {"BOOL", DType::boolean},
};

}  // namespace tempra::io
