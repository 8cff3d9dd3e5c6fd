// Chunks of keys of attention_decode.cu on tensor cores: bf16 and fp16 with heads of up to 128
// elements.
//
// Bytes moved: k and v of the chunk once, for up to 16 rows. Thread-to-data: a block of four warps
// per chunk, kv head and 16 rows; 64 keys are under way at a time, of which a warp takes 16.
// Weights are rounded to v's type for the product with v, sums are fp32. Deterministic: a warp
// walks its keys in order, and the four warps are added up in turn.
#include "attention_decode.cuh"
#include "attention_tile.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kTileRows = 16, kKeys = 64;

template <class T>
struct DecodeTiles {
    HeadView<T> q, k, v;
    AttentionOffsets offsets;
    Partials to;
    float scale;  // to powers of two
    int group;
};

// The rows of a unit lie at two strides.
template <class T, int kDim>
__device__ __forceinline__ void load_queries(T* tile, const DecodeTiles<T>& p,
                                             const DecodeBlock& block) {
    for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kDim; i += kAttentionThreads) {
        const int r = block.row + i / kDim, column = i % kDim;
        T x{0};
        if (r < block.end_row && column < p.q.head_dim) {
            x = p.q.rows(block.s.query_begin + r / p.group, block.kv_head * p.group + r % p.group)
                    .data[column];
        }
        tile[i / kDim * kTileStride<kDim> + column] = x;
    }
}

// The warps' sums, in shared memory as fp32 [warps, 16, kDim], put together and left.
template <class T, int kDim>
__device__ __forceinline__ void leave_tiles(const DecodeTiles<T>& p, const DecodeBlock& block,
                                            const float (&sums)[kDim / 8][4],
                                            const RunningSoftmax& softmax, float* memory) {
    __shared__ float largest[kAttentionWarps][kTileRows], totals[kAttentionWarps][kTileRows];
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = lane / 4 + half * 8;
        float* const to = memory + (warp * kTileRows + r) * kDim + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
            to[n * 8] = sums[n][2 * half];
            to[n * 8 + 1] = sums[n][2 * half + 1];
        }
        if (lane % 4 != 0) continue;
        largest[warp][r] = softmax.largest[half];
        totals[warp][r] = softmax.sum[half];
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kDim / 4; i += kAttentionThreads) {
        const int r = i / (kDim / 4), column = i % (kDim / 4) * 4;
        if (block.row + r >= block.end_row) continue;
        float most = kNothing, total = 0, sum[4] = {};
        for (int w = 0; w < kAttentionWarps; ++w) most = fmaxf(most, largest[w][r]);
        for (int w = 0; w < kAttentionWarps; ++w) {
            if (totals[w][r] == 0.0F) continue;
            const float weight = exp2f(largest[w][r] - most);
            float part[4];
            load_whole<float, 4>(memory + (w * kTileRows + r) * kDim + column, part);
            total += weight * totals[w][r];
#pragma unroll
            for (int k = 0; k < 4; ++k) sum[k] += weight * part[k];
        }
        const std::int64_t slot =
            p.to.slot(block.sequence, block.kv_head, block.split, block.row + r);
        store_whole<float, 4>(sum, p.to.sums + slot * p.to.row_elements + column);
        if (column != 0) continue;
        p.to.statistics[2 * slot] = most;
        p.to.statistics[2 * slot + 1] = total;
    }
}

template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads)
    decode_tiles(const __grid_constant__ DecodeTiles<T> p) {
    extern __shared__ uint4 memory[];
    constexpr int kQueryTile = attention_tile_elements(kTileRows, kDim);
    constexpr int kKeyTile = attention_tile_elements(kKeys, kDim);
    T* const query_tile = reinterpret_cast<T*>(memory);
    T* const key_tiles = query_tile + kQueryTile;  // two of keys, two of values
    T* const value_tiles = key_tiles + 2 * kKeyTile;
    const DecodeBlock block(p.offsets, p.to, p.group, kTileRows);
    if (block.is_empty(p.to)) return;
    const AttentionSequence& s = block.s;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = block.row + lane / 4;  // and row + 8
    const int query[2] = {row / p.group, (row + 8) / p.group};
    const auto load = [&](int key, int stage) {
        load_keys<kKeys, kDim>(key_tiles, value_tiles, stage, p.k, p.v, s, block.kv_head, key);
    };
    const int first = block.first / kKeys * kKeys;
    load(first, 0);
    commit_copies();
    load_queries<T, kDim>(query_tile, p, block);

    float sums[kDim / 8][4] = {};
    RunningSoftmax softmax;
    int stage = 0;
    for (int key = first; key < block.end; key += kKeys, stage ^= 1) {
        if (key + kKeys < block.end) load(key + kKeys, stage ^ 1);
        commit_copies();
        wait_for_copies<1>();
        __syncthreads();
        const int own = warp * kWarpRows, offset = stage * kKeyTile + own * kTileStride<kDim>;
        float scores[kWarpRows / 8][4] = {};
        multiply_by_rows<kDim>(scores, query_tile, key_tiles + offset);
#pragma unroll
        for (int n = 0; n < kWarpRows / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = key + own + n * 8 + lane % 4 * 2 + i % 2;
                const bool visible =
                    row + i / 2 * 8 < block.end_row && at < block.end && s.sees(query[i / 2], at);
                scores[n][i] = visible ? scores[n][i] * p.scale : kNothing;
            }
        }
        softmax.weigh(scores, sums);
        multiply_weights<kDim>(sums, scores, value_tiles + offset);
        __syncthreads();  // before the tile is written again
    }
    wait_for_copies<0>();
    softmax.finish();
    __syncthreads();
    leave_tiles<T, kDim>(p, block, sums, softmax, reinterpret_cast<float*>(memory));
}

template <class T, int kDim>
KernelStatus launch(const KernelContext& context, const DecodeTiles<T>& p, const dim3& grid) {
    constexpr int kTiles =
        2 * (attention_tile_elements(kTileRows, kDim) + 4 * attention_tile_elements(kKeys, kDim));
    constexpr int kSums = kAttentionWarps * kTileRows * kDim * 4;
    static_assert(kSums <= kTiles);
    return launch_tiles("attention: decode", context, decode_tiles<T, kDim>, grid, kTiles, p);
}

template <class T>
KernelStatus decode(const KernelContext& context, const AttentionArguments& a,
                    const DecodeShape& shape, const Partials& to) {
    DecodeTiles<T> p{};
    p.q = head_view<T>(a.q);
    p.k = head_view<T>(a.k);
    p.v = head_view<T>(a.v);
    p.offsets = attention_offsets(a);
    p.to = to;
    p.scale = static_cast<float>(a.scale) * kLog2E;
    p.group = static_cast<int>(a.q.size(1) / a.k.size(1));
    const dim3 grid = grid_of(shape, a.k.size(1), kTileRows);
    return a.q.size(2) <= 64 ? launch<T, 64>(context, p, grid) : launch<T, 128>(context, p, grid);
}

}  // namespace

KernelStatus decode_on_tensor_cores(const KernelContext& context, const AttentionArguments& a,
                                    const DecodeShape& shape, const Partials& to) {
    return with_half_dtype(a.q.dtype, [&](auto tag) {
        return decode<typename decltype(tag)::type>(context, a, shape, to);
    });
}

}  // namespace tempra::cuda
