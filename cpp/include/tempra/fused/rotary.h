// Rotary position embedding (Su et al. 2021, "RoFormer").
#pragma once

#include "tempra/tensor.h"

namespace tempra {

struct RotaryOptions {
    bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + rotary_dim / 2)
};

// x [tokens, heads, head_dim]; positions [tokens] i64 or i32; cosines and sines [positions, d / 2]
// f32, d <= head_dim even: elements past d are passed through.
[[nodiscard]] Tensor rotary(const Tensor& x, const Tensor& positions, const Tensor& cosines,
                            const Tensor& sines, const RotaryOptions& options = {});

// The same for queries and keys of the packed buffer [tokens, (heads + 2 kv_heads) * head_dim] that
// attention_qkv reads; values are passed through.
[[nodiscard]] Tensor rotary_qkv(const Tensor& qkv, const Tensor& positions, const Tensor& cosines,
                                const Tensor& sines, std::int64_t heads, std::int64_t kv_heads,
                                std::int64_t head_dim, const RotaryOptions& options = {});

}  // namespace tempra
