// Attention of any dtype and of heads of up to 512 elements: what the tensor cores of
// attention_forward.cu and attention_backward.cu do not take (fp32, and wider heads). The formulas
// are there.
//
// Bytes moved: every key and value row once per query row (from cache mostly): not fast.
// Thread-to-data: a warp owns one query of one head (for dK and dV one key of one kv head) and
// walks the other side 32 rows at a time: a lane makes one row's inner products, then the lanes
// hold the elements of the sums and go through the 32 weights in turn. fp32 throughout, weights
// too. Deterministic: every output row is summed by one warp in a fixed order.
#include "attention_parts.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "block_reduce.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kWarps = 4;

template <class T>
struct Heads {
    T* data;
    std::int64_t row_stride, head_stride;

    [[nodiscard]] __device__ __forceinline__ T* at(std::int64_t row, int head) const {
        return data + row * row_stride + head * head_stride;
    }
};

template <class T>
Heads<T> heads_of(const TensorView& view) {
    return {view.as<T>(), view.stride(0), view.stride(1)};
}

template <class T>
struct Rows {
    Heads<T> q, k, v, out, grad_out, grad_q, grad_k, grad_v;
    float* log_sum_exp;
    std::int64_t sums_head_stride, sums_row_stride;
    const float* delta;
    std::int64_t delta_head_stride;
    AttentionOffsets offsets;
    AttentionDropout dropout;
    float scale;
    std::int32_t blocks_per_sequence, group, head_dim;

    [[nodiscard]] __device__ __forceinline__ float keep(std::int64_t query, int head,
                                                        int key) const {
        if (!dropout.active) return 1.0F;
        return dropout.keeps(query, head, key) ? dropout.scale : 0.0F;
    }
};

__device__ __forceinline__ int lane_number() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int warp_number() { return static_cast<int>(threadIdx.x) / 32; }

template <class T>
__device__ __forceinline__ void keep_row(const T* row, int head_dim, float* to) {
    for (int d = lane_number(); d < head_dim; d += 32) to[d] = to_arithmetic(row[d]);
    __syncwarp();
}

template <class T>
__device__ __forceinline__ float inner_product(const float* a, const T* b, int head_dim) {
    float sum = 0;
    for (int d = 0; d < head_dim; ++d) sum += a[d] * to_arithmetic(b[d]);
    return sum;
}

// sums[i] += sum over the lanes' weights of element lane + 32 i of their rows.
template <class T, int kEach>
__device__ __forceinline__ void add_rows(float (&sums)[kEach], float weight, const T* rows,
                                         std::int64_t stride, int count, int head_dim) {
    for (int j = 0; j < count; ++j) {
        const float w = __shfl_sync(0xFFFFFFFFU, weight, j);
        const T* const row = rows + j * stride;
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
            const int d = lane_number() + 32 * i;
            if (d < head_dim) sums[i] += w * to_arithmetic(row[d]);
        }
    }
}

template <class T, int kEach>
__device__ __forceinline__ void store_sums(const float (&sums)[kEach], float factor, int head_dim,
                                           T* to) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
        const int d = lane_number() + 32 * i;
        if (d < head_dim) to[d] = from_arithmetic<T>(sums[i] * factor);
    }
}

template <class T, int kEach>
__global__ void __launch_bounds__(kWarps * 32) forward_rows(const __grid_constant__ Rows<T> p) {
    __shared__ float queries[kWarps][kMostHeadDim];
    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.blocks_per_sequence);
    const int query = static_cast<int>(block % p.blocks_per_sequence) * kWarps + warp_number();
    if (query >= s.queries) return;
    const int head = static_cast<int>(blockIdx.y), kv_head = head / p.group;
    const std::int64_t row = s.query_begin + query;
    float* const q = queries[warp_number()];
    keep_row(p.q.at(row, head), p.head_dim, q);
    float largest = kNothing, sum = 0, sums[kEach] = {};
    const int end = s.end_key(query);
    for (int base = s.first_key(query); base < end; base += 32) {
        const int key = base + lane_number(), count = end - base < 32 ? end - base : 32;
        float score = kNothing;
        if (key < end) {
            score = p.scale * inner_product(q, p.k.at(s.key_begin + key, kv_head), p.head_dim);
        }
        const float most = fmaxf(largest, warp_reduce(score, Larger{}));
        const float shift = most == kNothing ? 0.0F : most;
        const float shrink = expf(largest - shift);
        float weight = key < end ? expf(score - shift) : 0.0F;
        largest = most;
        sum = sum * shrink + warp_reduce(weight, Add{});
        if (key < end) weight *= p.keep(row, head, key);
#pragma unroll
        for (int i = 0; i < kEach; ++i) sums[i] *= shrink;
        add_rows<T, kEach>(sums, weight, p.v.at(s.key_begin + base, kv_head), p.v.row_stride, count,
                           p.head_dim);
    }
    store_sums<T, kEach>(sums, sum == 0.0F ? 0.0F : 1.0F / sum, p.head_dim, p.out.at(row, head));
    if (p.log_sum_exp != nullptr && lane_number() == 0) {
        p.log_sum_exp[head * p.sums_head_stride + row * p.sums_row_stride] =
            sum == 0.0F ? kNothing : largest + logf(sum);
    }
}

template <class T, int kEach>
__global__ void __launch_bounds__(kWarps * 32)
    query_gradient_rows(const __grid_constant__ Rows<T> p) {
    __shared__ float queries[kWarps][kMostHeadDim], grads[kWarps][kMostHeadDim];
    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.blocks_per_sequence);
    const int query = static_cast<int>(block % p.blocks_per_sequence) * kWarps + warp_number();
    if (query >= s.queries) return;
    const int head = static_cast<int>(blockIdx.y), kv_head = head / p.group;
    const std::int64_t row = s.query_begin + query;
    float *const q = queries[warp_number()], *const g = grads[warp_number()];
    keep_row(p.q.at(row, head), p.head_dim, q);
    keep_row(p.grad_out.at(row, head), p.head_dim, g);
    const float log_sum = p.log_sum_exp[head * p.sums_head_stride + row * p.sums_row_stride];
    const float delta = p.delta[head * p.delta_head_stride + row];
    float sums[kEach] = {};
    const int end = s.end_key(query);
    for (int base = s.first_key(query); base < end; base += 32) {
        const int key = base + lane_number(), count = end - base < 32 ? end - base : 32;
        float gradient = 0;
        if (key < end) {
            const std::int64_t at = s.key_begin + key;
            const float score = p.scale * inner_product(q, p.k.at(at, kv_head), p.head_dim);
            const float product = inner_product(g, p.v.at(at, kv_head), p.head_dim);
            gradient = expf(score - log_sum) * (product * p.keep(row, head, key) - delta);
        }
        add_rows<T, kEach>(sums, gradient, p.k.at(s.key_begin + base, kv_head), p.k.row_stride,
                           count, p.head_dim);
    }
    store_sums<T, kEach>(sums, p.scale, p.head_dim, p.grad_q.at(row, head));
}

template <class T, int kEach>
__global__ void __launch_bounds__(kWarps * 32, 4)
    key_gradient_rows(const __grid_constant__ Rows<T> p) {
    __shared__ float keys[kWarps][kMostHeadDim], values[kWarps][kMostHeadDim];
    const std::int64_t block = blockIdx.x;
    const AttentionSequence s = p.offsets.sequence(block / p.blocks_per_sequence);
    const int key = static_cast<int>(block % p.blocks_per_sequence) * kWarps + warp_number();
    if (key >= s.keys) return;
    const int kv_head = static_cast<int>(blockIdx.y);
    const std::int64_t row = s.key_begin + key;
    float *const k = keys[warp_number()], *const v = values[warp_number()];
    keep_row(p.k.at(row, kv_head), p.head_dim, k);
    keep_row(p.v.at(row, kv_head), p.head_dim, v);
    float grad_k[kEach] = {}, grad_v[kEach] = {};
    const int first = s.first_query(key), end = s.end_query(key + 1);
    for (int head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
        for (int base = first; base < end; base += 32) {
            const int query = base + lane_number(), count = end - base < 32 ? end - base : 32;
            const std::int64_t at = s.query_begin + query;
            float weight = 0, gradient = 0;
            if (query < end && s.sees(query, key)) {
                const float score = p.scale * inner_product(k, p.q.at(at, head), p.head_dim);
                const float product = inner_product(v, p.grad_out.at(at, head), p.head_dim);
                const float keep = p.keep(at, head, key);
                const float log_sum =
                    p.log_sum_exp[head * p.sums_head_stride + at * p.sums_row_stride];
                weight = expf(score - log_sum);
                gradient = weight * (product * keep - p.delta[head * p.delta_head_stride + at]);
                weight *= keep;
            }
            const std::int64_t rows = s.query_begin + base;
            add_rows<T, kEach>(grad_v, weight, p.grad_out.at(rows, head), p.grad_out.row_stride,
                               count, p.head_dim);
            add_rows<T, kEach>(grad_k, gradient, p.q.at(rows, head), p.q.row_stride, count,
                               p.head_dim);
        }
    }
    store_sums<T, kEach>(grad_k, p.scale, p.head_dim, p.grad_k.at(row, kv_head));
    store_sums<T, kEach>(grad_v, 1.0F, p.head_dim, p.grad_v.at(row, kv_head));
}

template <class T>
Rows<T> rows_of(const AttentionArguments& a) {
    Rows<T> p{};
    p.q = heads_of<T>(a.q);
    p.k = heads_of<T>(a.k);
    p.v = heads_of<T>(a.v);
    p.out = heads_of<T>(a.out);
    if (a.log_sum_exp.present()) {
        p.log_sum_exp = a.log_sum_exp.as<float>();
        p.sums_head_stride = a.log_sum_exp.stride(0);
        p.sums_row_stride = a.log_sum_exp.stride(1);
    }
    p.offsets = attention_offsets(a);
    p.dropout = attention_dropout(a);
    p.scale = static_cast<float>(a.scale);
    p.group = static_cast<std::int32_t>(a.q.size(1) / a.k.size(1));
    p.head_dim = static_cast<std::int32_t>(a.q.size(2));
    return p;
}

template <class T>
KernelStatus launch(const char* name, const KernelContext& context, void (*kernel)(const Rows<T>),
                    Rows<T> p, std::int64_t longest, std::int64_t heads) {
    p.blocks_per_sequence = static_cast<std::int32_t>(divide_up(longest, kWarps));
    const std::int64_t blocks =
        grid_for(std::int64_t{p.blocks_per_sequence} * p.offsets.sequences, 1);
    const KernelStatus status = check_launch(name, context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    kernel<<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(heads)), kWarps * 32, 0,
             static_cast<cudaStream_t>(context.stream)>>>(p);
    return finish_launch(name, context.stream);
}

}  // namespace

KernelStatus attention_forward_rows(const KernelContext& context, const AttentionArguments& a) {
    return with_compute_dtype(a.q.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto kernel = a.q.size(2) <= 128 ? forward_rows<T, 4> : forward_rows<T, 16>;
        return launch<T>("attention", context, kernel, rows_of<T>(a), a.max_query_length,
                         a.q.size(1));
    });
}

KernelStatus attention_backward_rows(const KernelContext& context,
                                     const AttentionBackwardArguments& b, const float* delta) {
    const AttentionArguments& a = b.forward;
    return with_compute_dtype(a.q.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        Rows<T> p = rows_of<T>(a);
        p.grad_out = heads_of<T>(b.grad_out);
        p.grad_q = heads_of<T>(b.grad_q);
        p.grad_k = heads_of<T>(b.grad_k);
        p.grad_v = heads_of<T>(b.grad_v);
        p.delta = delta;
        p.delta_head_stride = a.q.size(0);
        const bool narrow = a.q.size(2) <= 128;
        const KernelStatus status =
            launch<T>("attention_backward", context,
                      narrow ? key_gradient_rows<T, 4> : key_gradient_rows<T, 16>, p,
                      a.max_key_length, a.k.size(1));
        if (status != kKernelOk) return status;
        return launch<T>("attention_backward", context,
                         narrow ? query_gradient_rows<T, 4> : query_gradient_rows<T, 16>, p,
                         a.max_query_length, a.q.size(1));
    });
}

}  // namespace tempra::cuda
