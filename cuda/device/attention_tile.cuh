// Tiles of attention's operands in shared memory, and the products that a warp makes of them.
//
// A tile holds rows of one head, bf16 or fp16, kDim + 8 elements apart: then the eight rows of a
// matrix that load_matrices reads lie in different banks. Rows and elements that do not exist are
// zero.
#pragma once

#include "attention_shape.h"
#include "error_message.h"
#include "philox_position.cuh"
#include "tensor_core.cuh"

namespace tempra::cuda {

inline constexpr int kAttentionThreads = 128, kAttentionWarps = 4;
inline constexpr int kWarpRows = kAttentionRows / kAttentionWarps;  // 16: of one matrix instruction

// Rows of one head in device memory.
template <class T>
struct HeadRows {
    T* data;
    std::int64_t stride;
    std::int32_t head_dim;
    bool aligned;
};

template <class T>
struct HeadView {
    T* data;
    std::int64_t row_stride, head_stride;
    std::int32_t head_dim;
    bool aligned;

    [[nodiscard]] __device__ __forceinline__ HeadRows<T> rows(std::int64_t row, int head) const {
        return {data + row * row_stride + head * head_stride, row_stride, head_dim, aligned};
    }
};

template <class T>
[[nodiscard]] HeadView<T> head_view(const TensorView& view) {
    return {view.as<T>(), view.stride(0), view.stride(1), static_cast<std::int32_t>(view.size(2)),
            heads_are_aligned(view)};
}

template <int kDim>
inline constexpr int kTileStride = kDim + kAttentionPadding;

// Starts copying `rows` rows to the tile; the caller commits. The block works together.
template <int kRows, int kDim, class T>
__device__ __forceinline__ void load_tile(T* tile, const HeadRows<T>& from, int rows) {
    constexpr int kPacks = kDim / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kAttentionThreads) {
        const int row = i / kPacks, column = i % kPacks * 8;
        T* const to = tile + row * kTileStride<kDim> + column;
        const T* const source = from.data + row * from.stride + column;
        if (row < rows && from.aligned && column + 8 <= from.head_dim) {
            copy_async(to, source);
            continue;
        }
        for (int k = 0; k < 8; ++k) {
            to[k] = row < rows && column + k < from.head_dim ? source[k] : T{0};
        }
    }
}

// Starts copying kKeys keys of a sequence from `key` on, and their values, to one of the two tiles
// that there are of each: one is filled while the other is worked on.
template <int kKeys, int kDim, class T>
__device__ __forceinline__ void load_keys(T* key_tiles, T* value_tiles, int stage,
                                          const HeadView<T>& k, const HeadView<T>& v,
                                          const AttentionSequence& s, int kv_head, int key) {
    constexpr int kTile = attention_tile_elements(kKeys, kDim);
    const int rows = s.keys - key < kKeys ? s.keys - key : kKeys;
    const std::int64_t at = s.key_begin + key;
    load_tile<kKeys, kDim>(key_tiles + stage * kTile, k.rows(at, kv_head), rows);
    load_tile<kKeys, kDim>(value_tiles + stage * kTile, v.rows(at, kv_head), rows);
}

// A warp's 16 rows of a tile to rows [0, rows) of `to`.
template <int kDim, class T>
__device__ __forceinline__ void store_warp_rows(const T* tile, const HeadRows<T>& to, int rows) {
    constexpr int kPacks = kDim / 8;
    for (int i = static_cast<int>(threadIdx.x) % 32; i < kWarpRows * kPacks; i += 32) {
        const int row = i / kPacks, column = i % kPacks * 8;
        if (row >= rows) continue;
        const T* const source = tile + row * kTileStride<kDim> + column;
        T* const target = to.data + row * to.stride + column;
        if (to.aligned && column + 8 <= to.head_dim) {
            *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(source);
            continue;
        }
        for (int k = 0; k < 8 && column + k < to.head_dim; ++k) target[k] = source[k];
    }
}

// sums[16 rows, 8 kColumns] += rows of `left` (16 of the warp's, by kDim) times rows of `right`.
template <int kDim, int kColumns, class T>
__device__ __forceinline__ void multiply_by_rows(float (&sums)[kColumns][4], const T* left,
                                                 const T* right) {
    const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8, row = lane % 8;
#pragma unroll
    for (int k = 0; k < kDim; k += 16) {
        std::uint32_t a[4];
        load_matrices(a, left + (matrix % 2 * 8 + row) * kTileStride<kDim> + k + matrix / 2 * 8);
#pragma unroll
        for (int n = 0; n < kColumns; n += 2) {
            std::uint32_t b[4];
            load_matrices(
                b, right + (n * 8 + matrix / 2 * 8 + row) * kTileStride<kDim> + k + matrix % 2 * 8);
            multiply_accumulate<T>(sums[n], a, b[0], b[1]);
            multiply_accumulate<T>(sums[n + 1], a, b[2], b[3]);
        }
    }
}

// sums[16 rows, kDim] += weights[16 rows, 8 kRows] (as sums of an earlier product lie in
// registers, rounded to T) times the first 8 kRows rows of `right`.
template <int kDim, int kRows, class T>
__device__ __forceinline__ void multiply_weights(float (&sums)[kDim / 8][4],
                                                 const float (&weights)[kRows][4], const T* right) {
    const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8, row = lane % 8;
#pragma unroll
    for (int k = 0; k < kRows; k += 2) {
        const std::uint32_t a[4] = {pack_pair<T>(weights[k][0], weights[k][1]),
                                    pack_pair<T>(weights[k][2], weights[k][3]),
                                    pack_pair<T>(weights[k + 1][0], weights[k + 1][1]),
                                    pack_pair<T>(weights[k + 1][2], weights[k + 1][3])};
#pragma unroll
        for (int n = 0; n < kDim / 8; n += 2) {
            std::uint32_t b[4];
            load_matrices_transposed(b, right + (k * 8 + matrix % 2 * 8 + row) * kTileStride<kDim> +
                                            n * 8 + matrix / 2 * 8);
            multiply_accumulate<T>(sums[n], a, b[0], b[1]);
            multiply_accumulate<T>(sums[n + 1], a, b[2], b[3]);
        }
    }
}

// A warp's sums, times one factor for rows `group` and one for rows `group + 8`, to its 16 rows of
// a tile.
template <int kDim, class T>
__device__ __forceinline__ void put_sums(const float (&sums)[kDim / 8][4], float factor,
                                         float factor_below, T* tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    T* const to = tile + lane / 4 * kTileStride<kDim> + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
        *reinterpret_cast<std::uint32_t*>(to + n * 8) =
            pack_pair<T>(sums[n][0] * factor, sums[n][1] * factor);
        *reinterpret_cast<std::uint32_t*>(to + 8 * kTileStride<kDim> + n * 8) =
            pack_pair<T>(sums[n][2] * factor_below, sums[n][3] * factor_below);
    }
}

// Of attention weights: the CPU's words (dispatch/kernel_table.h).
struct AttentionDropout {
    PhiloxKey key;
    std::uint32_t threshold;
    float scale;  // 1 / (1 - probability)
    bool active;

    [[nodiscard]] __device__ __forceinline__ bool keeps(std::int64_t query_row, int head,
                                                        std::int32_t key_position) const {
        const std::uint64_t element =
            static_cast<std::uint64_t>(head * kDropoutKeys + key_position);
        const PhiloxBlock block =
            philox_at(key, query_row, static_cast<std::uint32_t>(element / 4));
        // Chosen, not indexed: an index would put the words into local memory.
        const std::uint32_t lower = (element & 1) != 0 ? block.words[1] : block.words[0];
        const std::uint32_t upper = (element & 1) != 0 ? block.words[3] : block.words[2];
        return ((element & 2) != 0 ? upper : lower) >= threshold;
    }
};

[[nodiscard]] inline AttentionDropout attention_dropout(const AttentionArguments& a) {
    const double kept = 1.0 - a.dropout_probability;
    return {a.dropout_key, philox_drop_threshold(a.dropout_probability),
            static_cast<float>(kept > 0.0 ? 1.0 / kept : 0.0), a.dropout_probability > 0};
}

// Launches a kernel that works on tiles: they may be more shared memory than kernels get unasked.
template <class Arguments>
[[nodiscard]] KernelStatus launch_tiles(const char* name, const KernelContext& context,
                                        void (*kernel)(const Arguments), const dim3& grid,
                                        int bytes, const Arguments& arguments) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail_with_cuda_error(name, error);
    kernel<<<grid, kAttentionThreads, bytes, static_cast<cudaStream_t>(context.stream)>>>(
        arguments);
    return finish_launch(name, context.stream);
}

}  // namespace tempra::cuda
