// Attention forward on tensor cores, without a T x T matrix:
//   out_i = sum_j p_ij v_j,  p_ij = exp(scale q_i.k_j - log_sum_exp_i),  j visible to i
// T. Dao: FlashAttention-2 (2023); running maximum and sum: M. Milakov, N. Gimelshein (2018).
//
// Bytes moved: q and out once, k and v once per block of 64 queries (from the second-level cache
// mostly). Thread-to-data: a block of four warps owns 64 queries of one head of one sequence, a
// warp 16 of them; it walks the keys they see, 64 at a time, with the next keys and values on their
// way while it works. Scores and weights stay in registers; weights are rounded to v's type for the
// product with v, sums are fp32. Late queries, which see the most keys, come first. Deterministic:
// a query's keys are walked in order by one warp.
#include "attention_parts.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kKeys = 64;

template <class T>
struct Forward {
    HeadView<T> q, k, v, out;
    float* log_sum_exp;  // null: not wanted
    std::int64_t sums_head_stride, sums_row_stride;
    AttentionOffsets offsets;
    AttentionDropout dropout;
    float scale;  // to powers of two
    std::int32_t query_blocks, group;
};

template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads)
    forward_tiles(const __grid_constant__ Forward<T> p) {
    extern __shared__ uint4 memory[];
    constexpr int kQueryTile = attention_tile_elements(kAttentionRows, kDim);
    constexpr int kKeyTile = attention_tile_elements(kKeys, kDim);
    T* const query_tile = reinterpret_cast<T*>(memory);
    T* const key_tiles = query_tile + kQueryTile;  // two of keys, two of values
    T* const value_tiles = key_tiles + 2 * kKeyTile;

    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.query_blocks);
    const int q0 = (p.query_blocks - 1 - static_cast<int>(block % p.query_blocks)) * kAttentionRows;
    if (q0 >= s.queries) return;
    const int head = static_cast<int>(blockIdx.y), kv_head = head / p.group;
    const int q1 = q0 + kAttentionRows < s.queries ? q0 + kAttentionRows : s.queries;
    const int first = s.first_key(q0) / kKeys * kKeys, end = s.end_key(q1 - 1);

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int warp_query = q0 + warp * kWarpRows;
    const int row = warp_query + lane / 4;  // and row + 8
    const auto load = [&](int key, int stage) {
        load_keys<kKeys, kDim>(key_tiles, value_tiles, stage, p.k, p.v, s, kv_head, key);
    };
    load_tile<kAttentionRows, kDim>(query_tile, p.q.rows(s.query_begin + q0, head), q1 - q0);
    if (first < end) load(first, 0);
    commit_copies();

    float sums[kDim / 8][4] = {};
    RunningSoftmax softmax;
    int stage = 0;
    for (int key = first; key < end; key += kKeys, stage ^= 1) {
        if (key + kKeys < end) load(key + kKeys, stage ^ 1);
        commit_copies();
        wait_for_copies<1>();
        __syncthreads();
        float scores[kKeys / 8][4] = {};
        multiply_by_rows<kDim>(scores, query_tile + warp * kWarpRows * kTileStride<kDim>,
                               key_tiles + stage * kKeyTile);
        const bool all_visible = s.sees_all(warp_query, warp_query + kWarpRows, key, key + kKeys);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = key + n * 8 + lane % 4 * 2 + i % 2;
                const bool visible = all_visible || s.sees(row + i / 2 * 8, at);
                scores[n][i] = visible ? scores[n][i] * p.scale : kNothing;
            }
        }
        softmax.weigh(scores, sums);
        if (p.dropout.active) {
#pragma unroll
            for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = key + n * 8 + lane % 4 * 2 + i % 2;
                    const std::int64_t query = s.query_begin + row + i / 2 * 8;
                    if (!p.dropout.keeps(query, head, at)) scores[n][i] = 0;
                }
            }
        }
        multiply_weights<kDim>(sums, scores, value_tiles + stage * kKeyTile);
        __syncthreads();  // before the tile is written again
    }
    wait_for_copies<0>();
    __syncthreads();
    softmax.finish();

    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = softmax.sum[half];
        factor[half] = sum == 0.0F ? 0.0F : p.dropout.scale / sum;
        const int at = row + half * 8;
        if (p.log_sum_exp != nullptr && lane % 4 == 0 && at < q1) {
            p.log_sum_exp[head * p.sums_head_stride + (s.query_begin + at) * p.sums_row_stride] =
                sum == 0.0F ? kNothing : (softmax.largest[half] + log2f(sum)) * kLn2;
        }
    }
    // Through the warp's own rows of the query tile, so that rows are written in whole packs.
    T* const own = query_tile + warp * kWarpRows * kTileStride<kDim>;
    put_sums<kDim>(sums, factor[0], factor[1], own);
    __syncwarp();
    store_warp_rows<kDim>(own, p.out.rows(s.query_begin + warp_query, head), q1 - warp_query);
}

template <class T, int kDim>
KernelStatus launch(const KernelContext& context, const Forward<T>& p, const dim3& grid) {
    constexpr int kBytes = 2 * (attention_tile_elements(kAttentionRows, kDim) +
                                4 * attention_tile_elements(kKeys, kDim));
    return launch_tiles("attention", context, forward_tiles<T, kDim>, grid, kBytes, p);
}

template <class T>
KernelStatus forward(const KernelContext& context, const AttentionArguments& a) {
    Forward<T> p{};
    p.q = head_view<T>(a.q);
    p.k = head_view<T>(a.k);
    p.v = head_view<T>(a.v);
    p.out = head_view<T>(a.out);
    if (a.log_sum_exp.present()) {
        p.log_sum_exp = a.log_sum_exp.as<float>();
        p.sums_head_stride = a.log_sum_exp.stride(0);
        p.sums_row_stride = a.log_sum_exp.stride(1);
    }
    p.offsets = attention_offsets(a);
    p.dropout = attention_dropout(a);
    p.scale = static_cast<float>(a.scale) * kLog2E;
    p.query_blocks = static_cast<std::int32_t>(divide_up(a.max_query_length, kAttentionRows));
    p.group = static_cast<std::int32_t>(a.q.size(1) / a.k.size(1));
    const std::int64_t blocks = grid_for(std::int64_t{p.query_blocks} * p.offsets.sequences, 1);
    const KernelStatus status = check_launch("attention", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(a.q.size(1)));
    return a.q.size(2) <= 64 ? launch<T, 64>(context, p, grid) : launch<T, 128>(context, p, grid);
}

}  // namespace

KernelStatus attention_forward_tiles(const KernelContext& context, const AttentionArguments& a) {
    return with_half_dtype(
        a.q.dtype, [&](auto tag) { return forward<typename decltype(tag)::type>(context, a); });
}

}  // namespace tempra::cuda
