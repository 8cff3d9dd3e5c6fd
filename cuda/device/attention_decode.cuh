// What the parts of decoding share: where a chunk of keys leaves its results, and what a block of
// theirs works on.
#pragma once

#include "attention_shape.h"
#include "attention_softmax.cuh"

namespace tempra::cuda {

// Where blocks leave what they have of a row.
struct Partials {
    float* sums;        // [units, splits, rows, row_elements]
    float* statistics;  // [units, splits, rows, 2]: largest score, in powers of two; sum of weights
    std::int64_t splits, rows, chunk, kv_heads, row_elements;

    [[nodiscard]] __device__ __forceinline__ std::int64_t slot(std::int64_t sequence, int kv_head,
                                                               std::int64_t split,
                                                               std::int64_t row) const {
        return ((sequence * kv_heads + kv_head) * splits + split) * rows + row;
    }
};

// What a block works on: rows [row, end_row) of a unit and the keys [first, end) of its chunk that
// any of them sees.
struct DecodeBlock {
    AttentionSequence s;
    std::int64_t sequence, split;
    int kv_head, row, end_row, first, end;

    __device__ __forceinline__ DecodeBlock(const AttentionOffsets& offsets, const Partials& to,
                                           int group, int rows)
        : sequence(blockIdx.x / to.splits), split(blockIdx.x % to.splits) {
        s = offsets.sequence(sequence);
        kv_head = static_cast<int>(blockIdx.y);
        row = static_cast<int>(blockIdx.z) * rows;
        const int all = s.queries * group;
        end_row = row + rows < all ? row + rows : all;
        if (row >= end_row) return;
        const std::int64_t begin = split * to.chunk;
        const std::int64_t behind = begin + to.chunk < s.keys ? begin + to.chunk : s.keys;
        const int seen = s.first_key(row / group), end_seen = s.end_key((end_row - 1) / group);
        first = seen > begin ? seen : static_cast<int>(begin < s.keys ? begin : s.keys);
        end = end_seen < behind ? end_seen : static_cast<int>(behind);
    }
    // Nothing to do; a chunk that no row sees says so.
    __device__ __forceinline__ bool is_empty(const Partials& to) const {
        if (row >= end_row) return true;
        if (first < end) return false;
        for (int r = row + static_cast<int>(threadIdx.x); r < end_row;
             r += static_cast<int>(blockDim.x)) {
            float* const pair = to.statistics + 2 * to.slot(sequence, kv_head, split, r);
            pair[0] = kNothing;
            pair[1] = 0;
        }
        return true;
    }
};

[[nodiscard]] inline dim3 grid_of(const DecodeShape& shape, std::int64_t kv_heads, int rows) {
    return dim3(static_cast<unsigned>(shape.units / kv_heads * shape.splits),
                static_cast<unsigned>(kv_heads),
                static_cast<unsigned>(divide_up(shape.rows, rows)));
}

// Leave chunks: attention_decode_tiles.cu, attention_decode_teams.cu.
[[nodiscard]] KernelStatus decode_on_tensor_cores(const KernelContext& context,
                                                  const AttentionArguments& a,
                                                  const DecodeShape& shape, const Partials& to);
[[nodiscard]] KernelStatus decode_by_teams(const KernelContext& context,
                                           const AttentionArguments& a, const DecodeShape& shape,
                                           const Partials& to);

}  // namespace tempra::cuda
