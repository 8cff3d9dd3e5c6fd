// Attention of a few queries against many keys (decoding with a KV cache): the formula of
// attention_forward.cu, with the keys cut into chunks so that one sequence fills a device. A chunk
// leaves, per row, its largest score, the sum of its weights and its unfinished output
// (attention_decode_tiles.cu, attention_decode_teams.cu); the kernel here puts the chunks together
// in their order.
//
// Bytes moved: 4 bytes per element of a row and chunk, written and read: 1/64 of the keys and
// values or less for one row a unit. Thread-to-data: a block per query and head, a thread per
// element. Chunks depend on shapes alone (attention_shape.h). Deterministic: chunks are added up in
// order.
#include "attention_decode.cuh"
#include "attention_parts.h"
#include "block_reduce.cuh"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kThreads = 128;

template <class T>
struct Combination {
    Partials from;
    AttentionOffsets offsets;
    T* out;
    std::int64_t out_row, out_head;
    float* log_sum_exp;  // null: not wanted
    std::int64_t sums_head_stride, sums_row_stride;
    int group, head_dim, max_queries;
};

// Block (x, y): query x % max_queries of sequence x / max_queries, head y.
template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_chunks(const __grid_constant__ Combination<T> p) {
    __shared__ float shared[32];
    const std::int64_t sequence = blockIdx.x / p.max_queries;
    const int query = static_cast<int>(blockIdx.x % p.max_queries);
    const AttentionSequence s = p.offsets.sequence(sequence);
    if (query >= s.queries) return;
    const int head = static_cast<int>(blockIdx.y), kv_head = head / p.group;
    const std::int64_t slot =
        p.from.slot(sequence, kv_head, 0, std::int64_t{query} * p.group + head % p.group);
    const float* const statistics = p.from.statistics + 2 * slot;
    const float* const sums = p.from.sums + slot * p.from.row_elements;
    const std::int64_t step = p.from.rows;  // slots between chunks
    float most = kNothing;
    for (std::int64_t c = threadIdx.x; c < p.from.splits; c += blockDim.x) {
        most = fmaxf(most, statistics[2 * c * step]);
    }
    most = block_reduce(most, Larger{}, shared);
    const std::int64_t row = s.query_begin + query;
    T* const out = p.out + row * p.out_row + head * p.out_head;
    for (int d = static_cast<int>(threadIdx.x); d < p.head_dim; d += static_cast<int>(blockDim.x)) {
        float total = 0, sum = 0;
        for (std::int64_t c = 0; c < p.from.splits; ++c) {
            const float weights = statistics[2 * c * step + 1];
            if (weights == 0.0F) continue;  // nothing was seen, and nothing left
            const float factor = exp2f(statistics[2 * c * step] - most);
            total += factor * weights;
            sum += factor * sums[c * step * p.from.row_elements + d];
        }
        out[d] = from_arithmetic<T>(total == 0.0F ? 0.0F : sum / total);
        if (d == 0 && p.log_sum_exp != nullptr) {
            p.log_sum_exp[head * p.sums_head_stride + row * p.sums_row_stride] =
                total == 0.0F ? kNothing : (most + log2f(total)) * kLn2;
        }
    }
}

template <class T>
KernelStatus combine(const KernelContext& context, const AttentionArguments& a,
                     const Partials& from) {
    Combination<T> p{};
    p.from = from;
    p.offsets = attention_offsets(a);
    p.out = a.out.as<T>();
    p.out_row = a.out.stride(0);
    p.out_head = a.out.stride(1);
    if (a.log_sum_exp.present()) {
        p.log_sum_exp = a.log_sum_exp.as<float>();
        p.sums_head_stride = a.log_sum_exp.stride(0);
        p.sums_row_stride = a.log_sum_exp.stride(1);
    }
    p.group = static_cast<int>(a.q.size(1) / a.k.size(1));
    p.head_dim = static_cast<int>(a.q.size(2));
    p.max_queries = static_cast<int>(a.max_query_length);
    const std::int64_t blocks = grid_for(std::int64_t{p.offsets.sequences} * p.max_queries, 1);
    const KernelStatus status = check_launch("attention: combine", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    combine_chunks<T>
        <<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(a.q.size(1))),
           p.head_dim <= 64 ? 64 : kThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(p);
    return finish_launch("attention: combine", context.stream);
}

}  // namespace

KernelStatus attention_decode(const KernelContext& context, const AttentionArguments& a) {
    const std::int64_t kv_heads = a.k.size(1), group = a.q.size(1) / kv_heads;
    const DecodeShape shape = decode_shape(a.offsets_q.size(0) - 1, kv_heads, group,
                                           a.max_query_length, a.max_key_length);
    const std::int64_t blocks = grid_for(shape.units / kv_heads * shape.splits, 1);
    KernelStatus status = check_launch("attention: decode", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const std::int64_t row_elements = divide_up(a.q.size(2), 64) * 64;
    const Scratch scratch(shape.slots() * (row_elements + 2) * 4, context.stream);
    if (!scratch.ok()) return kKernelOutOfMemory;
    float* const sums = scratch.as<float>();
    const Partials partials{sums,         sums + shape.slots() * row_elements,
                            shape.splits, shape.rows,
                            shape.chunk,  kv_heads,
                            row_elements};
    status = fits_tensor_cores(a) ? decode_on_tensor_cores(context, a, shape, partials)
                                  : decode_by_teams(context, a, shape, partials);
    if (status != kKernelOk) return status;
    return with_compute_dtype(a.q.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return combine<T>(context, a, partials);
    });
}

}  // namespace tempra::cuda
