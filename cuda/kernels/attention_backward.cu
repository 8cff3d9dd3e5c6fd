// Attention backward on tensor cores: weights are made again from log_sum_exp, a block at a time.
//   P_ij = exp(scale q_i.k_j - log_sum_exp_i)      dV_j = sum_i P_ij dO_i
//   dP_ij = dO_i.v_j,  delta_i = dO_i.O_i          dS_ij = P_ij (dP_ij - delta_i)
//   dK_j = scale sum_i dS_ij q_i                   dQ_i = scale sum_j dS_ij k_j
// Dropout multiplies P by a mask in dV and dP by the same mask; delta needs none. T. Dao:
// FlashAttention-2 (2023), as two kernels instead of one: seven products instead of five, and no
// sum that several blocks share.
//
// Bytes moved: q, k, v, dO read once per block of the other side, gradients written once.
// Thread-to-data: one kernel gives a block of four warps 64 keys of one kv head, and walks the
// queries of all heads of the group that see any of them, for dK and dV; the other gives it 64
// queries of one head and walks the keys they see, for dQ. A warp owns 16 rows. P and dS are
// rounded to bf16 for the products with dO, q and k; sums are fp32. Deterministic: every gradient
// is summed by one warp in a fixed order.
#include "attention_parts.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

// Queries or keys that are walked at a time: as many sums as registers hold.
template <int kDim>
inline constexpr int kStep = kDim <= 64 ? 64 : 32;

template <class T>
struct Backward {
    HeadView<T> q, k, v, grad_out, grad_q, grad_k, grad_v;
    const float* log_sum_exp;
    std::int64_t sums_head_stride, sums_row_stride;
    const float* delta;  // [heads, tokens]
    std::int64_t delta_head_stride;
    AttentionOffsets offsets;
    AttentionDropout dropout;
    float scale;
    std::int32_t blocks_per_sequence, group;

    // In powers of two; delta's place is the same row and head.
    [[nodiscard]] __device__ __forceinline__ float log_sum(int head, std::int64_t row) const {
        return log_sum_exp[head * sums_head_stride + row * sums_row_stride] * kLog2E;
    }
    [[nodiscard]] __device__ __forceinline__ float delta_of(int head, std::int64_t row) const {
        return delta[head * delta_head_stride + row];
    }
    // From a score and dP to P (for dV, masked) and dS.
    __device__ __forceinline__ void differentiate(float& weight, float& gradient, float log_sum,
                                                  float row_delta, bool visible, std::int64_t query,
                                                  int head, int key) const {
        const float p = visible ? exp2f(weight * (scale * kLog2E) - log_sum) : 0.0F;
        float keep = 1.0F;
        if (dropout.active) {
            keep = visible && dropout.keeps(query, head, key) ? dropout.scale : 0.0F;
        }
        weight = p * keep;
        gradient = visible ? p * (gradient * keep - row_delta) : 0.0F;
    }
};

template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads)
    key_gradients(const __grid_constant__ Backward<T> p) {
    extern __shared__ uint4 memory[];
    constexpr int kQueries = kStep<kDim>;
    constexpr int kOwnTile = attention_tile_elements(kAttentionRows, kDim);
    constexpr int kQueryTile = attention_tile_elements(kQueries, kDim);
    T* const key_tile = reinterpret_cast<T*>(memory);
    T* const value_tile = key_tile + kOwnTile;
    T* const query_tiles = value_tile + kOwnTile;  // two of queries, two of gradients
    T* const grad_tiles = query_tiles + 2 * kQueryTile;
    __shared__ float log_sums[2][kQueries], deltas[2][kQueries];

    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.blocks_per_sequence);
    const int k0 = static_cast<int>(block % p.blocks_per_sequence) * kAttentionRows;
    if (k0 >= s.keys) return;
    const int kv_head = static_cast<int>(blockIdx.y);
    const int k1 = k0 + kAttentionRows < s.keys ? k0 + kAttentionRows : s.keys;
    const int first = s.first_query(k0) / kQueries * kQueries, end = s.end_query(k1);

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int warp_key = k0 + warp * kWarpRows;
    const auto load_queries = [&](int head, int query, int stage) {
        const int left = s.queries - query, rows = left < kQueries ? left : kQueries;
        const std::int64_t row = s.query_begin + query;
        load_tile<kQueries, kDim>(query_tiles + stage * kQueryTile, p.q.rows(row, head), rows);
        load_tile<kQueries, kDim>(grad_tiles + stage * kQueryTile, p.grad_out.rows(row, head),
                                  rows);
        for (int i = static_cast<int>(threadIdx.x); i < kQueries; i += kAttentionThreads) {
            log_sums[stage][i] = i < rows ? p.log_sum(head, row + i) : 0.0F;
            deltas[stage][i] = i < rows ? p.delta_of(head, row + i) : 0.0F;
        }
    };
    load_tile<kAttentionRows, kDim>(key_tile, p.k.rows(s.key_begin + k0, kv_head), k1 - k0);
    load_tile<kAttentionRows, kDim>(value_tile, p.v.rows(s.key_begin + k0, kv_head), k1 - k0);
    // Blocks of queries of all heads of the group, one after another.
    const int per_head = first < end ? (end - first + kQueries - 1) / kQueries : 0;
    const int steps = per_head * p.group;
    if (steps > 0) load_queries(kv_head * p.group, first, 0);
    commit_copies();

    float grad_k[kDim / 8][4] = {}, grad_v[kDim / 8][4] = {};
    for (int step = 0; step < steps; ++step) {
        const int stage = step % 2, head = kv_head * p.group + step / per_head;
        const int query = first + step % per_head * kQueries;
        if (step + 1 < steps) {
            load_queries(kv_head * p.group + (step + 1) / per_head,
                         first + (step + 1) % per_head * kQueries, stage ^ 1);
        }
        commit_copies();
        wait_for_copies<1>();
        __syncthreads();
        // Rows are keys, columns queries.
        float weights[kQueries / 8][4] = {}, gradients[kQueries / 8][4] = {};
        const int own = warp * kWarpRows * kTileStride<kDim>;
        multiply_by_rows<kDim>(weights, key_tile + own, query_tiles + stage * kQueryTile);
        multiply_by_rows<kDim>(gradients, value_tile + own, grad_tiles + stage * kQueryTile);
        const bool all_visible =
            s.sees_all(query, query + kQueries, warp_key, warp_key + kWarpRows);
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = n * 8 + lane % 4 * 2 + i % 2, at = query + column;
                const int key = warp_key + lane / 4 + i / 2 * 8;
                const bool visible = all_visible || (at < s.queries && s.sees(at, key));
                p.differentiate(weights[n][i], gradients[n][i], log_sums[stage][column],
                                deltas[stage][column], visible, s.query_begin + at, head, key);
            }
        }
        multiply_weights<kDim>(grad_v, weights, grad_tiles + stage * kQueryTile);
        multiply_weights<kDim>(grad_k, gradients, query_tiles + stage * kQueryTile);
        __syncthreads();  // before the tiles are written again
    }
    wait_for_copies<0>();
    __syncthreads();
    const int own = warp * kWarpRows * kTileStride<kDim>, rows = k1 - warp_key;
    put_sums<kDim>(grad_k, p.scale, p.scale, key_tile + own);
    put_sums<kDim>(grad_v, 1.0F, 1.0F, value_tile + own);
    __syncwarp();
    store_warp_rows<kDim>(key_tile + own, p.grad_k.rows(s.key_begin + warp_key, kv_head), rows);
    store_warp_rows<kDim>(value_tile + own, p.grad_v.rows(s.key_begin + warp_key, kv_head), rows);
}

template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads)
    query_gradients(const __grid_constant__ Backward<T> p) {
    extern __shared__ uint4 memory[];
    constexpr int kKeys = kStep<kDim>;
    constexpr int kOwnTile = attention_tile_elements(kAttentionRows, kDim);
    constexpr int kKeyTile = attention_tile_elements(kKeys, kDim);
    T* const query_tile = reinterpret_cast<T*>(memory);
    T* const grad_tile = query_tile + kOwnTile;
    T* const key_tiles = grad_tile + kOwnTile;
    T* const value_tiles = key_tiles + 2 * kKeyTile;

    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.blocks_per_sequence);
    const int q0 = (p.blocks_per_sequence - 1 - static_cast<int>(block % p.blocks_per_sequence)) *
                   kAttentionRows;
    if (q0 >= s.queries) return;
    const int head = static_cast<int>(blockIdx.y), kv_head = head / p.group;
    const int q1 = q0 + kAttentionRows < s.queries ? q0 + kAttentionRows : s.queries;
    const int first = s.first_key(q0) / kKeys * kKeys, end = s.end_key(q1 - 1);

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int warp_query = q0 + warp * kWarpRows, row = warp_query + lane / 4;  // and row + 8
    const auto load = [&](int key, int stage) {
        load_keys<kKeys, kDim>(key_tiles, value_tiles, stage, p.k, p.v, s, kv_head, key);
    };
    load_tile<kAttentionRows, kDim>(query_tile, p.q.rows(s.query_begin + q0, head), q1 - q0);
    load_tile<kAttentionRows, kDim>(grad_tile, p.grad_out.rows(s.query_begin + q0, head), q1 - q0);
    if (first < end) load(first, 0);
    commit_copies();

    float log_sums[2] = {0, 0}, deltas[2] = {0, 0};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        if (row + half * 8 >= q1) continue;
        log_sums[half] = p.log_sum(head, s.query_begin + row + half * 8);
        deltas[half] = p.delta_of(head, s.query_begin + row + half * 8);
    }
    float grad_q[kDim / 8][4] = {};
    const int own = warp * kWarpRows * kTileStride<kDim>;
    int stage = 0;
    for (int key = first; key < end; key += kKeys, stage ^= 1) {
        if (key + kKeys < end) load(key + kKeys, stage ^ 1);
        commit_copies();
        wait_for_copies<1>();
        __syncthreads();
        float weights[kKeys / 8][4] = {}, gradients[kKeys / 8][4] = {};
        multiply_by_rows<kDim>(weights, query_tile + own, key_tiles + stage * kKeyTile);
        multiply_by_rows<kDim>(gradients, grad_tile + own, value_tiles + stage * kKeyTile);
        const bool all_visible = s.sees_all(warp_query, warp_query + kWarpRows, key, key + kKeys);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = key + n * 8 + lane % 4 * 2 + i % 2, query = row + i / 2 * 8;
                const bool visible = all_visible || (query < q1 && s.sees(query, at));
                p.differentiate(weights[n][i], gradients[n][i], log_sums[i / 2], deltas[i / 2],
                                visible, s.query_begin + query, head, at);
            }
        }
        multiply_weights<kDim>(grad_q, gradients, key_tiles + stage * kKeyTile);
        __syncthreads();  // before the tiles are written again
    }
    wait_for_copies<0>();
    __syncthreads();
    put_sums<kDim>(grad_q, p.scale, p.scale, query_tile + own);
    __syncwarp();
    store_warp_rows<kDim>(query_tile + own, p.grad_q.rows(s.query_begin + warp_query, head),
                          q1 - warp_query);
}

template <class T>
KernelStatus launch(const KernelContext& context, void (*kernel)(const Backward<T>), int bytes,
                    Backward<T> p, std::int64_t longest, std::int64_t heads) {
    p.blocks_per_sequence = static_cast<std::int32_t>(divide_up(longest, kAttentionRows));
    const std::int64_t blocks =
        grid_for(std::int64_t{p.blocks_per_sequence} * p.offsets.sequences, 1);
    const KernelStatus status = check_launch("attention_backward", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(heads));
    return launch_tiles("attention_backward", context, kernel, grid, bytes, p);
}

template <class T, int kDim>
KernelStatus launch_both(const KernelContext& context, const Backward<T>& p,
                         const AttentionArguments& a) {
    constexpr int kBytes = 2 * (2 * attention_tile_elements(kAttentionRows, kDim) +
                                4 * attention_tile_elements(kStep<kDim>, kDim));
    const KernelStatus status =
        launch<T>(context, key_gradients<T, kDim>, kBytes, p, a.max_key_length, a.k.size(1));
    if (status != kKernelOk) return status;
    return launch<T>(context, query_gradients<T, kDim>, kBytes, p, a.max_query_length, a.q.size(1));
}

template <class T>
KernelStatus backward(const KernelContext& context, const AttentionBackwardArguments& b,
                      const float* delta) {
    const AttentionArguments& a = b.forward;
    Backward<T> p{};
    p.q = head_view<T>(a.q);
    p.k = head_view<T>(a.k);
    p.v = head_view<T>(a.v);
    p.grad_out = head_view<T>(b.grad_out);
    p.grad_q = head_view<T>(b.grad_q);
    p.grad_k = head_view<T>(b.grad_k);
    p.grad_v = head_view<T>(b.grad_v);
    p.log_sum_exp = a.log_sum_exp.as<const float>();
    p.sums_head_stride = a.log_sum_exp.stride(0);
    p.sums_row_stride = a.log_sum_exp.stride(1);
    p.delta = delta;
    p.delta_head_stride = a.q.size(0);
    p.offsets = attention_offsets(a);
    p.dropout = attention_dropout(a);
    p.scale = static_cast<float>(a.scale);
    p.group = static_cast<std::int32_t>(a.q.size(1) / a.k.size(1));
    return a.q.size(2) <= 64 ? launch_both<T, 64>(context, p, a)
                             : launch_both<T, 128>(context, p, a);
}

}  // namespace

KernelStatus attention_backward_tiles(const KernelContext& context,
                                      const AttentionBackwardArguments& b, const float* delta) {
    return with_half_dtype(b.forward.q.dtype, [&](auto tag) {
        return backward<typename decltype(tag)::type>(context, b, delta);
    });
}

}  // namespace tempra::cuda
