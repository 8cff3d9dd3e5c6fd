// Scaled dot-product attention without a tokens x tokens matrix (Dao 2023, "FlashAttention-2").
#pragma once

#include <cstdint>
#include <optional>

#include "tempra/tensor.h"

namespace tempra {

struct AttentionOptions {
    bool causal = true;
    std::optional<double> scale;  // default 1 / sqrt(head_dim)
    std::int64_t window = 0;      // causal only: a query sees its last `window` keys; 0: all
    double dropout_probability = 0;
    // Where sequences begin and end among the tokens: i32 [sequences + 1], from 0 to the number of
    // tokens. Default: one sequence (3-d inputs) or one per batch row (4-d inputs).
    Tensor offsets_q, offsets_k;
    // The longest sequence of offsets_q, and of offsets_k (0: the same). Offsets on a CUDA device
    // are not read back, so that they need it; on the CPU it is found from them.
    std::int64_t longest_q = 0, longest_k = 0;
    // All sequences are that long: rows of one length, which devices have faster kernels for.
    bool even = false;
};

// q [tokens, heads, head_dim], k and v [tokens_k, kv_heads, head_dim] with heads a multiple of
// kv_heads; or all with a batch dimension in front. Result like q. Causal masks are aligned at the
// end of each sequence: with fewer queries than keys the last query sees every key.
[[nodiscard]] Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                               const AttentionOptions& options = {});

// The same on what linear_group(x, {q, k, v}) returns: qkv [tokens, (heads + 2 kv_heads) head_dim],
// result [tokens, heads * head_dim]. The gradient comes back in one buffer.
[[nodiscard]] Tensor attention_qkv(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                                   std::int64_t head_dim, const AttentionOptions& options = {});

}  // namespace tempra
