// Who sees whom in attention, and how it is cut into blocks: plain C++, the same on host and
// device, host-tested. The rules are the kernel table's (dispatch/kernel_table.h).
#pragma once

#include <cstdint>

#include "dispatch/kernel_table.h"
#include "fast_divide.h"
#include "launch_shape.h"

namespace tempra::cuda {

// Lengths and positions of one sequence; positions count within it. Query i sees the keys
// [first_key(i), end_key(i)), both non-decreasing in i.
struct AttentionSequence {
    std::int32_t query_begin, queries, key_begin, keys;
    std::int32_t shift;   // causal: query i is at key position i + shift
    std::int32_t window;  // 0: unlimited
    bool causal;

    [[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t end_key(std::int32_t i) const {
        if (!causal) return keys;
        const std::int32_t end = i + shift + 1;
        return end < 0 ? 0 : end < keys ? end : keys;
    }
    [[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t first_key(std::int32_t i) const {
        if (window == 0) return 0;
        const std::int32_t first = (causal ? i + shift + 1 : keys) - window;
        return first > 0 ? first : 0;
    }
    [[nodiscard]] TEMPRA_HOST_DEVICE bool sees(std::int32_t i, std::int32_t key) const {
        return key >= first_key(i) && key < end_key(i);
    }
    // All of the keys [k0, k1) are seen by all of the queries [q0, q1).
    [[nodiscard]] TEMPRA_HOST_DEVICE bool sees_all(std::int32_t q0, std::int32_t q1,
                                                   std::int32_t k0, std::int32_t k1) const {
        return q1 <= queries && k1 <= end_key(q0) && k0 >= first_key(q1 - 1);
    }
    // The queries [first_query, end_query) are all those that see any key of [k0, k1).
    [[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t first_query(std::int32_t k0) const {
        if (!causal || k0 <= shift) return 0;
        return k0 - shift < queries ? k0 - shift : queries;
    }
    [[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t end_query(std::int32_t k1) const {
        if (window == 0) return queries;
        if (!causal) return keys - window < k1 ? queries : 0;
        const std::int32_t end = k1 - 1 - shift + window;
        return end < 0 ? 0 : end < queries ? end : queries;
    }
};

struct AttentionOffsets {
    const std::int32_t *q, *k;
    std::int64_t q_stride, k_stride;
    std::int32_t sequences, window;
    bool causal;

    [[nodiscard]] TEMPRA_HOST_DEVICE AttentionSequence sequence(std::int64_t s) const {
        AttentionSequence result{};
        result.query_begin = q[s * q_stride];
        result.queries = q[(s + 1) * q_stride] - result.query_begin;
        result.key_begin = k[s * k_stride];
        result.keys = k[(s + 1) * k_stride] - result.key_begin;
        result.shift = result.keys - result.queries;
        result.window = window;
        result.causal = causal;
        return result;
    }
};

[[nodiscard]] inline AttentionOffsets attention_offsets(const AttentionArguments& a) {
    return {a.offsets_q.as<const std::int32_t>(),
            a.offsets_k.as<const std::int32_t>(),
            a.offsets_q.stride(0),
            a.offsets_k.stride(0),
            static_cast<std::int32_t>(a.offsets_q.size(0) - 1),
            a.window > 0 ? a.window : 0,
            a.causal != 0};
}

// Rows of a head of a [tokens, heads, head_dim] view can be moved 16 bytes at a time.
[[nodiscard]] inline bool heads_are_aligned(const TensorView& view) {
    return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 && view.stride(0) % 8 == 0 &&
           view.stride(1) % 8 == 0 && view.size(2) % 8 == 0;
}

inline constexpr int kAttentionRows = 64;    // queries or keys that a block owns
inline constexpr int kAttentionPadding = 8;  // elements behind each row in shared memory
inline constexpr std::int64_t kMostTensorCoreDim = 128;
inline constexpr std::int64_t kMostHeadDim = 512;

// Few queries against many keys: keys are cut into chunks, a block each, and the chunks' results
// are put together afterwards. A unit is a kv head of a sequence; its rows are the queries of all
// its heads, head by head within a query.
inline constexpr std::int64_t kDecodeQueries = 8;
inline constexpr std::int64_t kDecodeChunk = 256;  // keys, at least
inline constexpr std::int64_t kDecodeBlocks = 1024;

struct DecodeShape {
    std::int64_t units = 0, rows = 0;  // rows: the most of a unit
    std::int64_t chunk = 0, splits = 0;

    [[nodiscard]] std::int64_t slots() const { return units * splits * rows; }
};

[[nodiscard]] inline bool is_decoding(const AttentionArguments& a) {
    return a.max_query_length <= kDecodeQueries && a.dropout_probability == 0;
}

// Chunks grow only where enough of them are left to fill a device. From shapes alone.
[[nodiscard]] inline DecodeShape decode_shape(std::int64_t sequences, std::int64_t kv_heads,
                                              std::int64_t group, std::int64_t max_queries,
                                              std::int64_t max_keys) {
    DecodeShape shape;
    shape.units = sequences * kv_heads;
    shape.rows = max_queries * group;
    shape.chunk = kDecodeChunk;
    while (shape.chunk < max_keys &&
           shape.units * divide_up(max_keys, 2 * shape.chunk) >= kDecodeBlocks) {
        shape.chunk *= 2;
    }
    shape.splits = max_keys > 0 ? divide_up(max_keys, shape.chunk) : 1;
    return shape;
}

[[nodiscard]] inline bool fits_tensor_cores(const AttentionArguments& a) {
    return size_of(a.q.dtype) == 2 && a.q.size(2) <= kMostTensorCoreDim;
}

// Elements, of two bytes, of one tile in shared memory.
[[nodiscard]] constexpr int attention_tile_elements(int rows, int dim) {
    return rows * (dim + kAttentionPadding);
}

}  // namespace tempra::cuda
