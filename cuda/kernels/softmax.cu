// softmax(x)_i = exp(x_i - m) / s,  log_softmax(x)_i = (x_i - m) - log s,  m = max x,
// s = sum exp(x - m). Backward, from the output y: dx = y (dy - sum(dy y));
// for the logarithm dx = dy - exp(y) sum(dy).
//
// Bytes moved per element: one read and one write from device memory; the row is read three times
// (backward: twice), from cache after the first. Thread-to-data: one block per row, one pack of 16
// bytes per thread and turn (element by element where rows are not aligned). fp32 arithmetic,
// rounded once at the store. Deterministic: block_reduce's order is fixed. -inf entries get
// probability 0; a row of -inf alone, or one with NaN or +inf, gives NaN.
#include "block_reduce.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "row_shape.h"
#include "row_walk.cuh"

namespace tempra::cuda {

namespace {

constexpr float kLowest = -__builtin_inff();

template <class T, int kPack, bool kLogarithm>
__global__ void __launch_bounds__(kMostRowThreads)
    softmax_rows(const T* in, std::int64_t in_stride, T* out, std::int64_t out_stride,
                 std::int64_t columns) {
    __shared__ float shared[32];
    const T* const x = in + blockIdx.x * in_stride;
    T* const y = out + blockIdx.x * out_stride;
    float largest = kLowest;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, kLowest, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) largest = fmaxf(largest, v[k]);
    });
    largest = block_reduce(largest, Larger{}, shared);
    float total = 0;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, kLowest, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            if (k < count) total += expf(v[k] - largest);
        }
    });
    total = block_reduce(total, Add{}, shared);
    const float log_total = kLogarithm ? logf(total) : 0.0F, scale = 1.0F / total;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, 0.0F, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            v[k] = kLogarithm ? (v[k] - largest) - log_total : expf(v[k] - largest) * scale;
        }
        store_pack<T, kPack>(v, count, y + i);
    });
}

template <class T, int kPack, bool kLogarithm>
__global__ void __launch_bounds__(kMostRowThreads)
    softmax_backward_rows(const T* out, std::int64_t out_stride, const T* grad_out,
                          std::int64_t grad_out_stride, T* grad_in, std::int64_t grad_in_stride,
                          std::int64_t columns) {
    __shared__ float shared[32];
    const T* const y = out + blockIdx.x * out_stride;
    const T* const dy = grad_out + blockIdx.x * grad_out_stride;
    T* const dx = grad_in + blockIdx.x * grad_in_stride;
    float total = 0;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float a[kPack], g[kPack];
        load_pack<T, kPack>(y + i, count, 0.0F, a);
        load_pack<T, kPack>(dy + i, count, 0.0F, g);
#pragma unroll
        for (int k = 0; k < kPack; ++k) total += kLogarithm ? g[k] : a[k] * g[k];
    });
    total = block_reduce(total, Add{}, shared);
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float a[kPack], g[kPack];
        load_pack<T, kPack>(y + i, count, 0.0F, a);
        load_pack<T, kPack>(dy + i, count, 0.0F, g);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            g[k] = kLogarithm ? g[k] - expf(a[k]) * total : a[k] * (g[k] - total);
        }
        store_pack<T, kPack>(g, count, dx + i);
    });
}

template <class T, int kPack>
void launch_forward(const KernelContext& context, const TensorView& in, bool logarithm,
                    const TensorView& out) {
    const auto kernel = logarithm ? softmax_rows<T, kPack, true> : softmax_rows<T, kPack, false>;
    kernel<<<static_cast<unsigned>(in.size(0)), row_threads(in.size(1), kPack), 0,
             static_cast<cudaStream_t>(context.stream)>>>(in.as<const T>(), in.stride(0),
                                                          out.as<T>(), out.stride(0), in.size(1));
}

template <class T, int kPack>
void launch_backward(const KernelContext& context, const TensorView& out,
                     const TensorView& grad_out, bool logarithm, const TensorView& grad_in) {
    const auto kernel =
        logarithm ? softmax_backward_rows<T, kPack, true> : softmax_backward_rows<T, kPack, false>;
    kernel<<<static_cast<unsigned>(out.size(0)), row_threads(out.size(1), kPack), 0,
             static_cast<cudaStream_t>(context.stream)>>>(
        out.as<const T>(), out.stride(0), grad_out.as<const T>(), grad_out.stride(0),
        grad_in.as<T>(), grad_in.stride(0), out.size(1));
}

KernelStatus softmax(const KernelContext& context, const TensorView& in, std::int32_t logarithm,
                     const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    const KernelStatus status = check_launch("softmax", context, grid_for(in.size(0), 1));
    if (status != kKernelOk || in.numel() == 0) return status;
    return with_compute_dtype(in.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows_are_aligned(in) && rows_are_aligned(out)) {
            launch_forward<T, kPackOf<T>>(context, in, logarithm != 0, out);
        } else {
            launch_forward<T, 1>(context, in, logarithm != 0, out);
        }
        return finish_launch("softmax", context.stream);
    });
}

KernelStatus softmax_backward(const KernelContext& context, const TensorView& out,
                              const TensorView& grad_out, std::int32_t logarithm,
                              const TensorView& grad_in) {
    if (out.dtype != grad_out.dtype || out.dtype != grad_in.dtype) return kKernelUnsupportedDtype;
    const KernelStatus status = check_launch("softmax_backward", context, grid_for(out.size(0), 1));
    if (status != kKernelOk || out.numel() == 0) return status;
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows_are_aligned(out) && rows_are_aligned(grad_out) && rows_are_aligned(grad_in)) {
            launch_backward<T, kPackOf<T>>(context, out, grad_out, logarithm != 0, grad_in);
        } else {
            launch_backward<T, 1>(context, out, grad_out, logarithm != 0, grad_in);
        }
        return finish_launch("softmax_backward", context.stream);
    });
}

}  // namespace

void register_softmax(KernelTable& table) {
    table.softmax = softmax;
    table.softmax_backward = softmax_backward;
}

}  // namespace tempra::cuda
