// y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + epsilon), per row (Zhang & Sennrich 2019).
// Backward, with xhat = x * rstd and g = dy * weight:
//   dx = rstd * (g - xhat * mean(g * xhat)),  dweight += sum_rows dy * xhat
//
// Bytes moved per element: forward one read and one write, backward two reads and one write; the
// second pass over a row finds it in cache. Thread-to-data: forward one block per row; backward one
// block per chunk of rows (row_shape.h), whose threads keep the sums for their own columns in
// shared memory (in device memory for rows too wide) and leave one partial row per chunk; packs of
// 16 bytes where rows are aligned. fp32 arithmetic, rounded once at the store. Deterministic:
// chunks depend on the number of rows alone, all sums are taken in a fixed order.
#include "block_reduce.cuh"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "partial_rows.cuh"
#include "row_shape.h"
#include "row_walk.cuh"

namespace tempra::cuda {

namespace {

template <class T, class W, int kPack>
__global__ void __launch_bounds__(kMostRowThreads)
    rms_norm_rows(const T* in, std::int64_t in_stride, const W* weight, float epsilon, T* out,
                  std::int64_t out_stride, float* rstd, std::int64_t columns) {
    __shared__ float shared[32];
    const T* const x = in + blockIdx.x * in_stride;
    T* const y = out + blockIdx.x * out_stride;
    float squares = 0;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, 0.0F, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) squares += v[k] * v[k];
    });
    const float mean = block_reduce(squares, Add{}, shared) / static_cast<float>(columns);
    const float scale = 1.0F / sqrtf(mean + epsilon);
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack], w[kPack];
        load_pack<T, kPack>(x + i, count, 0.0F, v);
        if (weight != nullptr) load_pack<W, kPack>(weight + i, count, 0.0F, w);
#pragma unroll
        for (int k = 0; k < kPack; ++k)
            v[k] = weight != nullptr ? v[k] * scale * w[k] : v[k] * scale;
        store_pack<T, kPack>(v, count, y + i);
    });
    if (threadIdx.x == 0 && rstd != nullptr) rstd[blockIdx.x] = scale;
}

template <class T, class W>
struct BackwardRows {
    const T* grad_out;
    const T* x;
    const W* weight;  // null: all one
    const float* rstd;
    T* grad_x;        // null: not wanted
    float* partials;  // [chunks, columns]; null: not wanted
    std::int64_t grad_out_stride, x_stride, rstd_stride, grad_x_stride;
    std::int64_t rows, columns, rows_each;
    bool sums_in_shared;
};

template <class T, class W, int kPack>
__global__ void __launch_bounds__(kMostRowThreads)
    rms_norm_backward_rows(const __grid_constant__ BackwardRows<T, W> a) {
    extern __shared__ float accumulators[];
    __shared__ float shared[32];
    const std::int64_t chunk = blockIdx.x;
    const ColumnSums sums(a.partials, a.sums_in_shared ? accumulators : nullptr, chunk, a.columns);
    sums.clear<kPack>(a.columns);
    const std::int64_t begin = chunk * a.rows_each;
    const std::int64_t end = begin + a.rows_each < a.rows ? begin + a.rows_each : a.rows;
    for (std::int64_t row = begin; row < end; ++row) {
        const T* const dy = a.grad_out + row * a.grad_out_stride;
        const T* const x = a.x + row * a.x_stride;
        const float scale = a.rstd[row * a.rstd_stride];
        float sum_gx = 0;
        for_each_pack<kPack>(a.columns, [&](std::int64_t i, int count) {
            float d[kPack], v[kPack], w[kPack];
            load_pack<T, kPack>(dy + i, count, 0.0F, d);
            load_pack<T, kPack>(x + i, count, 0.0F, v);
            if (a.weight != nullptr) load_pack<W, kPack>(a.weight + i, count, 0.0F, w);
#pragma unroll
            for (int k = 0; k < kPack; ++k) {
                const float product = d[k] * (v[k] * scale);
                sum_gx += a.weight != nullptr ? product * w[k] : product;
                if (k < count && sums.wanted()) sums.sums[i + k] += product;
            }
        });
        if (a.grad_x == nullptr) continue;
        const float mean_gx = block_reduce(sum_gx, Add{}, shared) / static_cast<float>(a.columns);
        T* const dx = a.grad_x + row * a.grad_x_stride;
        for_each_pack<kPack>(a.columns, [&](std::int64_t i, int count) {
            float d[kPack], v[kPack], w[kPack];
            load_pack<T, kPack>(dy + i, count, 0.0F, d);
            load_pack<T, kPack>(x + i, count, 0.0F, v);
            if (a.weight != nullptr) load_pack<W, kPack>(a.weight + i, count, 0.0F, w);
#pragma unroll
            for (int k = 0; k < kPack; ++k) {
                const float g = a.weight != nullptr ? d[k] * w[k] : d[k];
                d[k] = scale * (g - v[k] * scale * mean_gx);
            }
            store_pack<T, kPack>(d, count, dx + i);
        });
    }
    sums.leave<kPack>(a.columns);
}

KernelStatus rms_norm(const KernelContext& context, const TensorView& x, const TensorView& weight,
                      double epsilon, const TensorView& out, const TensorView& rstd) {
    if (x.dtype != out.dtype || (rstd.present() && rstd.dtype != DType::f32)) {
        return kKernelUnsupportedDtype;
    }
    if (rstd.present() && !rstd.is_contiguous()) {
        return fail(kKernelFailed, "rms_norm: strided statistics");
    }
    const DType parameters = weight.present() ? weight.dtype : x.dtype;
    const KernelStatus status = check_launch("rms_norm", context, grid_for(x.size(0), 1));
    if (status != kKernelOk || x.numel() == 0) return status;
    return with_parameter_dtype(x.dtype, parameters, [&](auto tag, auto parameter_tag) {
        using T = typename decltype(tag)::type;
        using W = typename decltype(parameter_tag)::type;
        const bool packs = rows_are_aligned(x) && rows_are_aligned(out) && rows_are_aligned(weight);
        const auto kernel = packs ? rms_norm_rows<T, W, kPackOf<T>> : rms_norm_rows<T, W, 1>;
        kernel<<<static_cast<unsigned>(x.size(0)), row_threads(x.size(1), packs ? kPackOf<T> : 1),
                 0, static_cast<cudaStream_t>(context.stream)>>>(
            x.as<const T>(), x.stride(0), weight.as<const W>(), static_cast<float>(epsilon),
            out.as<T>(), out.stride(0), rstd.as<float>(), x.size(1));
        return finish_launch("rms_norm", context.stream);
    });
}

KernelStatus rms_norm_backward(const KernelContext& context, const TensorView& grad_out,
                               const TensorView& x, const TensorView& weight,
                               const TensorView& rstd, const TensorView& grad_x,
                               const TensorView& grad_weight) {
    if (grad_out.dtype != x.dtype || (grad_x.present() && grad_x.dtype != x.dtype) ||
        rstd.dtype != DType::f32 || (grad_weight.present() && grad_weight.dtype != DType::f32)) {
        return kKernelUnsupportedDtype;
    }
    const std::int64_t rows = x.size(0), columns = x.size(1);
    KernelStatus status = check_launch("rms_norm_backward", context, 1);
    if (status != kKernelOk || x.numel() == 0) return status;
    const RowChunks chunks = row_chunks(rows);
    const int arrays = grad_weight.present() ? 1 : 0;
    const Scratch scratch(chunks.count * columns * arrays * 4, context.stream);
    if (!scratch.ok()) return kKernelOutOfMemory;
    float* const partials = grad_weight.present() ? scratch.as<float>() : nullptr;
    const std::int64_t shared_bytes = shared_accumulator_bytes(columns, arrays);
    const DType parameters = weight.present() ? weight.dtype : x.dtype;
    status = with_parameter_dtype(x.dtype, parameters, [&](auto tag, auto parameter_tag) {
        using T = typename decltype(tag)::type;
        using W = typename decltype(parameter_tag)::type;
        const bool packs = rows_are_aligned(x) && rows_are_aligned(grad_out) &&
                           rows_are_aligned(weight) && rows_are_aligned(grad_x);
        const auto kernel =
            packs ? rms_norm_backward_rows<T, W, kPackOf<T>> : rms_norm_backward_rows<T, W, 1>;
        kernel<<<static_cast<unsigned>(chunks.count), row_threads(columns, packs ? kPackOf<T> : 1),
                 static_cast<std::size_t>(shared_bytes),
                 static_cast<cudaStream_t>(context.stream)>>>(
            BackwardRows<T, W>{grad_out.as<const T>(), x.as<const T>(), weight.as<const W>(),
                               rstd.as<const float>(), grad_x.as<T>(), partials, grad_out.stride(0),
                               x.stride(0), rstd.stride(0), grad_x.present() ? grad_x.stride(0) : 0,
                               rows, columns, chunks.rows_each, shared_bytes > 0});
        return finish_launch("rms_norm_backward", context.stream);
    });
    if (status == kKernelOk && partials != nullptr) {
        status = launch_add_partial_rows("rms_norm_backward: weight", context.stream, partials,
                                         chunks.count, grad_weight);
    }
    return status;
}

}  // namespace

void register_rms_norm(KernelTable& table) {
    table.rms_norm = rms_norm;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace tempra::cuda
