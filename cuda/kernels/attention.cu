// Attention: which kernels do it, rows that belong to no sequence, and delta, the sum of grad_out *
// out over each row of each head, which the backward kernels share.
//
// Bytes moved: of delta grad_out and out once; rows of no sequence are written once.
// Thread-to-data: as many threads per row and head as it has packs of 16 bytes, up to a warp
// (delta), a thread per row (zeros). Deterministic: butterfly sums.
#include "attention_choice.h"
#include "attention_parts.h"
#include "attention_shape.h"
#include "block_reduce.cuh"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    zero_rows_outside(const std::int32_t* offsets, std::int64_t last, T* data, std::int64_t rows,
                      std::int64_t heads, std::int64_t head_dim, std::int64_t row_stride,
                      std::int64_t head_stride) {
    const std::int64_t row = thread_number();
    const bool inside = last > 0 && row >= offsets[0] && row < offsets[last];
    if (row >= rows || inside) return;
    for (std::int64_t head = 0; head < heads; ++head) {
        T* const to = data + row * row_stride + head * head_stride;
        for (std::int64_t d = 0; d < head_dim; ++d) to[d] = from_arithmetic<T>(0.0F);
    }
}

KernelStatus zero_outside(const KernelContext& context, const AttentionArguments& a,
                          const TensorView& offsets, const TensorView& view) {
    if (a.uniform != 0) return kKernelOk;  // the sequences are all there is
    return with_compute_dtype(view.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const std::int64_t blocks = grid_for(view.size(0), kElementwiseThreads);
        const KernelStatus status = check_launch("attention: padding", context, blocks);
        if (status != kKernelOk || blocks == 0) return status;
        zero_rows_outside<T><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                               static_cast<cudaStream_t>(context.stream)>>>(
            offsets.as<const std::int32_t>(), (offsets.size(0) - 1) * offsets.stride(0),
            view.as<T>(), view.size(0), view.size(1), view.size(2), view.stride(0), view.stride(1));
        return static_cast<KernelStatus>(finish_launch("attention: padding", context.stream));
    });
}

// `team`: threads that share a row of a head, a power of two up to 32.
template <class T, int kPack>
__global__ void __launch_bounds__(kElementwiseThreads)
    row_deltas(const T* grad, std::int64_t grad_row, std::int64_t grad_head, const T* out,
               std::int64_t out_row, std::int64_t out_head, std::int64_t rows, std::int64_t heads,
               std::int64_t head_dim, int team, float* delta) {
    const std::int64_t unit = thread_number() / team;
    const bool exists = unit < rows * heads;  // all threads take part in the exchange below
    const std::int64_t row = unit / heads, head = unit % heads;
    const int place = static_cast<int>(threadIdx.x) % team;
    float sum = 0;
    for (std::int64_t d = place * kPack; exists && d < head_dim; d += team * kPack) {
        float g[kPack], o[kPack];
        load_whole<T, kPack>(grad + row * grad_row + head * grad_head + d, g);
        load_whole<T, kPack>(out + row * out_row + head * out_head + d, o);
#pragma unroll
        for (int k = 0; k < kPack; ++k) sum += g[k] * o[k];
    }
    for (int distance = team / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if (exists && place == 0) delta[head * rows + row] = sum;
}

KernelStatus make_deltas(const KernelContext& context, const TensorView& grad,
                         const TensorView& out, float* delta) {
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const std::int64_t rows = out.size(0), heads = out.size(1);
        const bool packs = heads_are_aligned(grad) && heads_are_aligned(out);
        const std::int64_t loads = divide_up(out.size(2), packs ? kPackOf<T> : 1);
        int team = 1;
        while (team < 32 && team < loads) team *= 2;
        const std::int64_t blocks = grid_for(rows * heads * team, kElementwiseThreads);
        const KernelStatus status = check_launch("attention_backward: delta", context, blocks);
        if (status != kKernelOk || blocks == 0) return status;
        const auto kernel = packs ? row_deltas<T, kPackOf<T>> : row_deltas<T, 1>;
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(
            grad.as<const T>(), grad.stride(0), grad.stride(1), out.as<const T>(), out.stride(0),
            out.stride(1), rows, heads, out.size(2), team, delta);
        return static_cast<KernelStatus>(
            finish_launch("attention_backward: delta", context.stream));
    });
}

KernelStatus check_problem(const AttentionArguments& a) {
    for (const TensorView* view : {&a.q, &a.k, &a.v, &a.out}) {
        if (view->dtype != a.q.dtype) return kKernelUnsupportedDtype;
        if (view->size(2) > 1 && view->stride(2) != 1) {
            return fail(kKernelFailed, "attention: heads of unit stride are needed");
        }
    }
    if (a.log_sum_exp.present() && a.log_sum_exp.dtype != DType::f32)
        return kKernelUnsupportedDtype;
    if (a.q.size(2) > kMostHeadDim) {
        return fail(kKernelFailed, "attention: heads of " + std::to_string(a.q.size(2)) +
                                       " elements given; the most is " +
                                       std::to_string(kMostHeadDim));
    }
    if (a.q.size(1) > 65535) return fail(kKernelFailed, "attention: more than 65535 heads");
    if (a.q.size(0) > INT32_MAX || a.k.size(0) > INT32_MAX) {
        return fail(kKernelFailed, "attention: more than 2^31 - 1 tokens");
    }
    return kKernelOk;
}

KernelStatus attention(const KernelContext& context, const AttentionArguments& a) {
    KernelStatus status = check_launch("attention", context, 1);
    if (status == kKernelOk) status = check_problem(a);
    if (status != kKernelOk || a.q.size(1) == 0 || a.k.size(1) == 0) return status;
    status = zero_outside(context, a, a.offsets_q, a.out);
    if (status != kKernelOk) return status;
    if (a.offsets_q.size(0) <= 1 || a.max_query_length <= 0) return status;
    status = attention_by_cudnn(context, a);
    if (status != kOwnKernels) return status;
    if (is_decoding(a)) return attention_decode(context, a);
    return fits_tensor_cores(a) ? attention_forward_tiles(context, a)
                                : attention_forward_rows(context, a);
}

KernelStatus attention_backward(const KernelContext& context, const AttentionBackwardArguments& b) {
    const AttentionArguments& a = b.forward;
    KernelStatus status = check_launch("attention_backward", context, 1);
    if (status == kKernelOk) status = check_problem(a);
    for (const TensorView* view : {&b.grad_out, &b.grad_q, &b.grad_k, &b.grad_v}) {
        if (status == kKernelOk && view->dtype != a.q.dtype) status = kKernelUnsupportedDtype;
    }
    if (status != kKernelOk || a.q.size(1) == 0 || a.k.size(1) == 0) return status;
    status = zero_outside(context, a, a.offsets_q, b.grad_q);
    if (status == kKernelOk) status = zero_outside(context, a, a.offsets_k, b.grad_k);
    if (status == kKernelOk) status = zero_outside(context, a, a.offsets_k, b.grad_v);
    if (status != kKernelOk || a.offsets_q.size(0) <= 1) return status;
    status = attention_backward_by_cudnn(context, b);
    if (status != kOwnKernels) return status;
    const Scratch delta(a.q.size(0) * a.q.size(1) * 4, context.stream);
    if (!delta.ok()) return kKernelOutOfMemory;
    status = make_deltas(context, b.grad_out, a.out, delta.as<float>());
    if (status != kKernelOk) return status;
    return fits_tensor_cores(a) ? attention_backward_tiles(context, b, delta.as<float>())
                                : attention_backward_rows(context, b, delta.as<float>());
}

}  // namespace

void register_attention(KernelTable& table) {
    table.attention = attention;
    table.attention_backward = attention_backward;
}

}  // namespace tempra::cuda
