// Reading a one-dimensional view of i64 or i32 indices.
#pragma once

#include "tempra/tensor_view.h"

namespace tempra::cpu::TEMPRA_ISA {

inline std::int64_t index_at(const TensorView& indices, std::int64_t i) {
    const std::int64_t at = i * indices.strides[0];
    if (indices.dtype == DType::i64) return static_cast<const std::int64_t*>(indices.data)[at];
    return static_cast<const std::int32_t*>(indices.data)[at];
}

// True when every index is in [0, count).
inline bool indices_in_range(const TensorView& indices, std::int64_t count) {
    for (std::int64_t i = 0; i < indices.sizes[0]; ++i) {
        const std::int64_t index = index_at(indices, i);
        if (index < 0 || index >= count) return false;
    }
    return true;
}

}  // namespace tempra::cpu::TEMPRA_ISA
