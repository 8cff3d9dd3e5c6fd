// y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(variance + epsilon), per row.
// Backward, with xhat = (x - mean) * rstd and g = dy * weight:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dweight += sum_rows dy * xhat,
//   dbias += sum_rows dy
//
// Bytes moved per element: forward one read and one write, backward two reads and one write; later
// passes over a row find it in cache. The variance is a second pass over x - mean, which large
// means do not harm. Thread-to-data: forward one block per row; backward one block per chunk of
// rows (row_shape.h), whose threads keep the sums for their own columns in shared memory (in device
// memory for rows too wide) and leave one partial row per chunk; packs of 16 bytes where rows are
// aligned. fp32 arithmetic, rounded once at the store. Deterministic: chunks depend on the number
// of rows alone, all sums are taken in a fixed order.
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
    layer_norm_rows(const T* in, std::int64_t in_stride, const W* weight, const W* bias,
                    float epsilon, T* out, std::int64_t out_stride, float* mean, float* rstd,
                    std::int64_t columns) {
    __shared__ float shared[32];
    const T* const x = in + blockIdx.x * in_stride;
    T* const y = out + blockIdx.x * out_stride;
    const auto n = static_cast<float>(columns);
    float sum = 0;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, 0.0F, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) sum += v[k];
    });
    const float center = block_reduce(sum, Add{}, shared) / n;
    float squares = 0;
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack];
        load_pack<T, kPack>(x + i, count, center, v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) squares += (v[k] - center) * (v[k] - center);
    });
    const float scale = 1.0F / sqrtf(block_reduce(squares, Add{}, shared) / n + epsilon);
    for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
        float v[kPack], w[kPack], b[kPack];
        load_pack<T, kPack>(x + i, count, 0.0F, v);
        if (weight != nullptr) load_pack<W, kPack>(weight + i, count, 0.0F, w);
        if (bias != nullptr) load_pack<W, kPack>(bias + i, count, 0.0F, b);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            v[k] = (v[k] - center) * scale;
            if (weight != nullptr) v[k] *= w[k];
            if (bias != nullptr) v[k] += b[k];
        }
        store_pack<T, kPack>(v, count, y + i);
    });
    if (threadIdx.x == 0) {
        if (mean != nullptr) mean[blockIdx.x] = center;
        if (rstd != nullptr) rstd[blockIdx.x] = scale;
    }
}

template <class T, class W>
struct BackwardRows {
    const T* grad_out;
    const T* x;
    const W* weight;  // null: all one
    const float* mean;
    const float* rstd;
    T* grad_x;               // null: not wanted
    float* weight_partials;  // [chunks, columns]; null: not wanted
    float* bias_partials;
    std::int64_t grad_out_stride, x_stride, mean_stride, rstd_stride, grad_x_stride;
    std::int64_t rows, columns, rows_each;
    bool sums_in_shared;
};

template <class T, class W, int kPack>
__global__ void __launch_bounds__(kMostRowThreads)
    layer_norm_backward_rows(const __grid_constant__ BackwardRows<T, W> a) {
    extern __shared__ float accumulators[];
    __shared__ float shared[32];
    const std::int64_t chunk = blockIdx.x;
    float* const first = a.sums_in_shared ? accumulators : nullptr;
    float* const behind =
        first != nullptr && a.weight_partials != nullptr ? first + a.columns : first;
    const ColumnSums weight_sums(a.weight_partials, first, chunk, a.columns);
    const ColumnSums bias_sums(a.bias_partials, behind, chunk, a.columns);
    weight_sums.clear<kPack>(a.columns);
    bias_sums.clear<kPack>(a.columns);
    const std::int64_t begin = chunk * a.rows_each;
    const std::int64_t end = begin + a.rows_each < a.rows ? begin + a.rows_each : a.rows;
    const auto n = static_cast<float>(a.columns);
    for (std::int64_t row = begin; row < end; ++row) {
        const T* const dy = a.grad_out + row * a.grad_out_stride;
        const T* const x = a.x + row * a.x_stride;
        const float center = a.mean[row * a.mean_stride], scale = a.rstd[row * a.rstd_stride];
        float sum_g = 0, sum_gx = 0;
        for_each_pack<kPack>(a.columns, [&](std::int64_t i, int count) {
            float d[kPack], v[kPack], w[kPack];
            load_pack<T, kPack>(dy + i, count, 0.0F, d);
            load_pack<T, kPack>(x + i, count, center, v);
            if (a.weight != nullptr) load_pack<W, kPack>(a.weight + i, count, 0.0F, w);
#pragma unroll
            for (int k = 0; k < kPack; ++k) {
                const float normal = (v[k] - center) * scale;
                const float g = a.weight != nullptr ? d[k] * w[k] : d[k];
                sum_g += g;
                sum_gx += g * normal;
                if (k < count && weight_sums.wanted()) weight_sums.sums[i + k] += d[k] * normal;
                if (k < count && bias_sums.wanted()) bias_sums.sums[i + k] += d[k];
            }
        });
        if (a.grad_x == nullptr) continue;
        const float mean_g = block_reduce(sum_g, Add{}, shared) / n;
        const float mean_gx = block_reduce(sum_gx, Add{}, shared) / n;
        T* const dx = a.grad_x + row * a.grad_x_stride;
        for_each_pack<kPack>(a.columns, [&](std::int64_t i, int count) {
            float d[kPack], v[kPack], w[kPack];
            load_pack<T, kPack>(dy + i, count, 0.0F, d);
            load_pack<T, kPack>(x + i, count, 0.0F, v);
            if (a.weight != nullptr) load_pack<W, kPack>(a.weight + i, count, 0.0F, w);
#pragma unroll
            for (int k = 0; k < kPack; ++k) {
                const float g = a.weight != nullptr ? d[k] * w[k] : d[k];
                d[k] = scale * (g - mean_g - (v[k] - center) * scale * mean_gx);
            }
            store_pack<T, kPack>(d, count, dx + i);
        });
    }
    weight_sums.leave<kPack>(a.columns);
    bias_sums.leave<kPack>(a.columns);
}

KernelStatus layer_norm(const KernelContext& context, const TensorView& x, const TensorView& weight,
                        const TensorView& bias, double epsilon, const TensorView& out,
                        const TensorView& mean, const TensorView& rstd) {
    if (weight.present() && bias.present() && weight.dtype != bias.dtype) {
        return kKernelUnsupportedDtype;
    }
    if (x.dtype != out.dtype) return kKernelUnsupportedDtype;
    for (const TensorView* statistic : {&mean, &rstd}) {
        if (!statistic->present()) continue;
        if (statistic->dtype != DType::f32) return kKernelUnsupportedDtype;
        if (!statistic->is_contiguous())
            return fail(kKernelFailed, "layer_norm: strided statistics");
    }
    const DType parameters = weight.present() ? weight.dtype
                             : bias.present() ? bias.dtype
                                              : x.dtype;
    const KernelStatus status = check_launch("layer_norm", context, grid_for(x.size(0), 1));
    if (status != kKernelOk || x.numel() == 0) return status;
    return with_parameter_dtype(x.dtype, parameters, [&](auto tag, auto parameter_tag) {
        using T = typename decltype(tag)::type;
        using W = typename decltype(parameter_tag)::type;
        const bool packs = rows_are_aligned(x) && rows_are_aligned(out) &&
                           rows_are_aligned(weight) && rows_are_aligned(bias);
        const auto kernel = packs ? layer_norm_rows<T, W, kPackOf<T>> : layer_norm_rows<T, W, 1>;
        kernel<<<static_cast<unsigned>(x.size(0)), row_threads(x.size(1), packs ? kPackOf<T> : 1),
                 0, static_cast<cudaStream_t>(context.stream)>>>(
            x.as<const T>(), x.stride(0), weight.as<const W>(), bias.as<const W>(),
            static_cast<float>(epsilon), out.as<T>(), out.stride(0), mean.as<float>(),
            rstd.as<float>(), x.size(1));
        return finish_launch("layer_norm", context.stream);
    });
}

KernelStatus layer_norm_backward(const KernelContext& context, const TensorView& grad_out,
                                 const TensorView& x, const TensorView& weight,
                                 const TensorView& mean, const TensorView& rstd,
                                 const TensorView& grad_x, const TensorView& grad_weight,
                                 const TensorView& grad_bias) {
    if (grad_out.dtype != x.dtype || (grad_x.present() && grad_x.dtype != x.dtype)) {
        return kKernelUnsupportedDtype;
    }
    for (const TensorView* view : {&mean, &rstd, &grad_weight, &grad_bias}) {
        if (view->present() && view->dtype != DType::f32) return kKernelUnsupportedDtype;
    }
    const std::int64_t rows = x.size(0), columns = x.size(1);
    KernelStatus status = check_launch("layer_norm_backward", context, 1);
    if (status != kKernelOk || x.numel() == 0) return status;
    const RowChunks chunks = row_chunks(rows);
    const int arrays = (grad_weight.present() ? 1 : 0) + (grad_bias.present() ? 1 : 0);
    const Scratch scratch(chunks.count * columns * arrays * 4, context.stream);
    if (!scratch.ok()) return kKernelOutOfMemory;
    float* const first = scratch.as<float>();
    float* const weight_partials = grad_weight.present() ? first : nullptr;
    float* const bias_partials =
        grad_bias.present() ? first + (arrays - 1) * chunks.count * columns : nullptr;
    const std::int64_t shared_bytes = shared_accumulator_bytes(columns, arrays);
    const DType parameters = weight.present() ? weight.dtype : x.dtype;
    status = with_parameter_dtype(x.dtype, parameters, [&](auto tag, auto parameter_tag) {
        using T = typename decltype(tag)::type;
        using W = typename decltype(parameter_tag)::type;
        const bool packs = rows_are_aligned(x) && rows_are_aligned(grad_out) &&
                           rows_are_aligned(weight) && rows_are_aligned(grad_x);
        const auto kernel =
            packs ? layer_norm_backward_rows<T, W, kPackOf<T>> : layer_norm_backward_rows<T, W, 1>;
        kernel<<<static_cast<unsigned>(chunks.count), row_threads(columns, packs ? kPackOf<T> : 1),
                 static_cast<std::size_t>(shared_bytes),
                 static_cast<cudaStream_t>(context.stream)>>>(BackwardRows<T, W>{
            grad_out.as<const T>(), x.as<const T>(), weight.as<const W>(), mean.as<const float>(),
            rstd.as<const float>(), grad_x.as<T>(), weight_partials, bias_partials,
            grad_out.stride(0), x.stride(0), mean.stride(0), rstd.stride(0),
            grad_x.present() ? grad_x.stride(0) : 0, rows, columns, chunks.rows_each,
            shared_bytes > 0});
        return finish_launch("layer_norm_backward", context.stream);
    });
    if (status == kKernelOk && weight_partials != nullptr) {
        status = launch_add_partial_rows("layer_norm_backward: weight", context.stream,
                                         weight_partials, chunks.count, grad_weight);
    }
    if (status == kKernelOk && bias_partials != nullptr) {
        status = launch_add_partial_rows("layer_norm_backward: bias", context.stream, bias_partials,
                                         chunks.count, grad_bias);
    }
    return status;
}

}  // namespace

void register_layer_norm(KernelTable& table) {
    table.layer_norm = layer_norm;
    table.layer_norm_backward = layer_norm_backward;
}

}  // namespace tempra::cuda
