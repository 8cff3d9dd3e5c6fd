// Which attention cuDNN takes, and what one of its plans depends on: plain C++, host-tested.
// Decided by shapes, strides and the kind of device alone, so that runs agree.
//
// Sequences that are all of one length (`uniform`) are a dense [sequences, heads, length, head_dim]
// tensor. Packed ones are "ragged": tables in device memory say at which element each begins and
// how long it is, and numbers of sequences and their longest length are rounded up, as a plan takes
// half a second to build and batches differ; the sequences added have no rows.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>

#include "attention_shape.h"
#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// What a plan reads and writes. `length_*` and the tables (one for each of the first nine, at the
// same place behind `table`) exist where it is ragged.
enum CudnnTensor : int {
    kCudnnQ,
    kCudnnK,
    kCudnnV,
    kCudnnOut,
    kCudnnStatistics,
    kCudnnGradOut,
    kCudnnGradQ,
    kCudnnGradK,
    kCudnnGradV,
    kCudnnRows,  // how many there are of the above
    kCudnnLengthsQ = kCudnnRows,
    kCudnnLengthsK,
    kCudnnTables,
    kCudnnTensors = kCudnnTables + kCudnnRows
};

struct CudnnAttentionShape {
    std::int32_t architecture = 0;  // 90: compute capability 9.0
    DType dtype = DType::bf16;
    bool backward = false, deterministic = true, ragged = false, statistics = true;
    bool causal = true;
    std::int32_t window = 0;
    std::int32_t scale_bits = 0;  // of a float
    std::int64_t sequences = 0, heads = 0, kv_heads = 0, head_dim = 0;
    std::int64_t queries = 0, keys = 0;  // of each sequence, or of the longest
    // In elements; 0 for what the plan has not. Those of the statistics are not asked for.
    std::array<std::int64_t, kCudnnRows> row_strides{}, head_strides{};

    [[nodiscard]] float scale() const { return std::bit_cast<float>(scale_bits); }
    friend auto operator<=>(const CudnnAttentionShape&, const CudnnAttentionShape&) = default;
};

[[nodiscard]] constexpr std::int64_t cudnn_heads(const CudnnAttentionShape& s, int tensor) {
    const bool keys =
        tensor == kCudnnK || tensor == kCudnnV || tensor == kCudnnGradK || tensor == kCudnnGradV;
    return keys ? s.kv_heads : s.heads;
}
[[nodiscard]] constexpr std::int64_t cudnn_length(const CudnnAttentionShape& s, int tensor) {
    const bool keys =
        tensor == kCudnnK || tensor == kCudnnV || tensor == kCudnnGradK || tensor == kCudnnGradV;
    return keys ? s.keys : s.queries;
}
[[nodiscard]] constexpr bool cudnn_uses(const CudnnAttentionShape& s, int tensor) {
    if (tensor == kCudnnStatistics) return s.backward || s.statistics;
    return tensor <= kCudnnOut || s.backward;
}

// A packed batch has room for this many.
[[nodiscard]] constexpr std::int64_t round_up_to_power(std::int64_t value, std::int64_t least) {
    std::int64_t power = least;
    while (power < value) power *= 2;
    return power;
}
inline constexpr std::int64_t kCudnnLeastRaggedLength = 128;

// Where a ragged sequence begins, in elements of a tensor whose rows are `row_stride` apart, and
// how many rows it has. Entries behind the last sequence are empty.
[[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t ragged_begin(const std::int32_t* offsets,
                                                           std::int64_t offsets_stride,
                                                           std::int64_t sequences,
                                                           std::int64_t entry,
                                                           std::int64_t row_stride) {
    const std::int64_t at = entry < sequences ? entry : sequences;
    return static_cast<std::int32_t>(offsets[at * offsets_stride] * row_stride);
}
[[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t ragged_length(const std::int32_t* offsets,
                                                            std::int64_t offsets_stride,
                                                            std::int64_t sequences,
                                                            std::int64_t entry) {
    if (entry >= sequences) return 0;
    return offsets[(entry + 1) * offsets_stride] - offsets[entry * offsets_stride];
}

using CudnnViews = std::array<const TensorView*, kCudnnRows>;

[[nodiscard]] inline CudnnViews cudnn_views(const AttentionArguments& a,
                                            const AttentionBackwardArguments* b) {
    CudnnViews views{&a.q, &a.k, &a.v, &a.out, &a.log_sum_exp};
    if (b != nullptr) {
        views[kCudnnGradOut] = &b->grad_out;
        views[kCudnnGradQ] = &b->grad_q;
        views[kCudnnGradK] = &b->grad_k;
        views[kCudnnGradV] = &b->grad_v;
    }
    return views;
}

// Null where cuDNN is asked for it; else why our own kernels do it. `b`: null for the forward pass.
[[nodiscard]] inline const char* cudnn_refusal(const AttentionArguments& a,
                                               const AttentionBackwardArguments* b,
                                               std::int32_t architecture) {
    if (a.q.dtype != DType::bf16 && a.q.dtype != DType::f16) return "neither bf16 nor fp16";
    if (architecture < 80) return "an architecture before 8.0";
    if (a.dropout_probability != 0) return "dropout, whose Philox stream is our own";
    if (!(a.scale > 0)) return "a scale that is not above 0";
    if (a.max_query_length <= kDecodeQueries) return "few queries, as in decoding";
    if (a.max_key_length <= 0 || a.offsets_q.size(0) < 2) return "no keys";
    if (a.q.size(2) % 8 != 0 || a.q.size(2) > 256) return "a head size off 8, 16, ... 256";
    if (a.window != 0 && a.causal == 0) return "a window without a causal mask";
    const bool square = a.max_query_length == a.max_key_length;
    if (a.causal != 0 && a.max_query_length > a.max_key_length) return "queries that see no key";
    if (a.window != 0 && !square) return "a window over more keys than queries";
    if (b == nullptr && !a.log_sum_exp.present() && (!square || a.max_query_length % 64 != 0)) {
        return "inference on a length that comes once";  // a plan takes longer
    }
    if (a.uniform != 0) {
        const std::int64_t sequences = a.offsets_q.size(0) - 1;
        if (a.q.size(0) != sequences * a.max_query_length ||
            a.k.size(0) != sequences * a.max_key_length) {
            return "rows outside of the sequences";
        }
    } else {
        const std::int32_t family = architecture / 10;
        if (family != 9 && family != 10) return "packed sequences on other than 9.x and 10.x";
        // The same sequences for queries and keys, so that each query sees a key.
        if (!square || a.offsets_q.data != a.offsets_k.data ||
            a.offsets_q.stride(0) != a.offsets_k.stride(0)) {
            return "packed queries and keys that differ";
        }
    }
    const TensorView& sums = a.log_sum_exp;  // moved, or handed on, as [heads, tokens] in one piece
    if (sums.present() && (sums.stride(0) != a.q.size(0) || sums.stride(1) != 1 ||
                           reinterpret_cast<std::uintptr_t>(sums.data) % 16 != 0)) {
        return "log-sum-exps with gaps or off 16 bytes";
    }
    const CudnnViews views = cudnn_views(a, b);
    for (int tensor = 0; tensor < kCudnnRows; ++tensor) {
        const TensorView* const view = views[static_cast<std::size_t>(tensor)];
        if (tensor == kCudnnStatistics || view == nullptr) continue;
        if (!heads_are_aligned(*view)) return "rows off 16 bytes";
        if (view->stride(0) <= 0 || view->stride(1) <= 0) return "rows or heads that repeat";
        if (a.uniform == 0 && view->size(0) * view->stride(0) > INT32_MAX) {
            return "packed tensors of more than 2^31 elements";
        }
    }
    return nullptr;
}

// Of what is not refused.
[[nodiscard]] inline CudnnAttentionShape cudnn_attention_shape(const AttentionArguments& a,
                                                               const AttentionBackwardArguments* b,
                                                               std::int32_t architecture,
                                                               bool deterministic) {
    CudnnAttentionShape s;
    s.architecture = architecture;
    s.dtype = a.q.dtype;
    s.backward = b != nullptr;
    s.deterministic = b == nullptr || deterministic;
    s.ragged = a.uniform == 0;
    s.statistics = a.log_sum_exp.present();
    s.causal = a.causal != 0;
    // A window as wide as all keys is none.
    s.window = a.window < a.max_key_length ? a.window : 0;
    s.scale_bits = std::bit_cast<std::int32_t>(static_cast<float>(a.scale));
    s.sequences = a.offsets_q.size(0) - 1;
    s.heads = a.q.size(1);
    s.kv_heads = a.k.size(1);
    s.head_dim = a.q.size(2);
    s.queries = a.max_query_length;
    s.keys = a.max_key_length;
    if (s.ragged) {
        s.sequences = round_up_to_power(s.sequences, 1);
        s.queries = s.keys = round_up_to_power(s.queries, kCudnnLeastRaggedLength);
    }
    const CudnnViews views = cudnn_views(a, b);
    for (std::size_t tensor = 0; tensor < kCudnnRows; ++tensor) {
        if (tensor == kCudnnStatistics || views[tensor] == nullptr) continue;
        s.row_strides[tensor] = views[tensor]->stride(0);
        s.head_strides[tensor] = views[tensor]->stride(1);
    }
    return s;
}

}  // namespace tempra::cuda
