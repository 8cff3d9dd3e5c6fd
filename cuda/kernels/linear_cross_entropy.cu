// loss_i = cross_entropy(hidden_i @ weight^T + bias, label_i) and its gradients, without the matrix
// of all logits: per chunk of rows
//   logits = hidden @ weight^T + bias     one product, fp32 in scratch memory
//   losses, dlogits                       per row, in place; in 16 bits beside such hidden
//   grad_hidden = dlogits @ weight,  grad_weight += dlogits^T @ hidden,
//   grad_bias += sum over rows of dlogits
// with lse = m + log(sum exp(x - m)), loss = (1 - smoothing) (lse - x[label]) + smoothing (lse -
// mean(x)) + z lse^2, dx_i = scale (p_i (1 + 2 z lse) - (1 - smoothing) [i == label] - smoothing /
// n), p = exp(x - lse).
//
// Bytes moved beside the three products: per logit one fp32 read for the loss, one for the gradient
// and its write. A chunk has as many rows as fit in 512 MiB of logits. Thread-to-data: a block per
// row, packs of 16 bytes; maxima and sums are running per thread and merged in a fixed order.
// 16-bit gradients overwrite the first half of the row's bytes: a barrier lies between a stretch's
// reads and its writes. Chunks follow one another, so gradients are added in a fixed order:
// deterministic. A label out of range counts as ignored and leaves a fault for
// `stream_synchronize`. Chunking as in Hsu et al. 2024 (Liger kernel) and Wijmans et al. 2024 (cut
// cross-entropy).
#include <optional>

#include "block_reduce.cuh"
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "loss_chunks.h"
#include "parameter_types.cuh"
#include "row_shape.h"

namespace tempra::cuda {

namespace {

constexpr float kLowest = -__builtin_inff();
constexpr int kPack = 8, kThreads = 512;  // 16 bytes in 16 bits, twice that in fp32

struct LossRows {
    float* logits;
    std::int64_t stride, columns;
    const void* labels;
    std::int64_t label_stride, ignore_index;
    bool labels_are_wide;
    // Strides of 0 beside null pointers.
    float* losses;
    float* log_sum_exps;
    const float* grad_losses;
    std::int64_t loss_stride, sums_stride, grad_stride;
    double label_smoothing, z_loss, grad_scale;
    bool with_gradient, knows_sums;
    std::int32_t* fault;

    [[nodiscard]] __device__ __forceinline__ std::int64_t label(std::int64_t row) const {
        const std::int64_t at = row * label_stride;
        return labels_are_wide ? static_cast<const std::int64_t*>(labels)[at]
                               : static_cast<const std::int32_t*>(labels)[at];
    }
};

// Maximum, sum of exponentials and sum of a row's logits, known to all threads.
struct RowStatistics {
    float largest, total, logit_sum;
};

__device__ __forceinline__ RowStatistics row_statistics(const float* row, std::int64_t columns,
                                                        bool with_logit_sum, float* shared) {
    float largest = kLowest, total = 0, logit_sum = 0;
    for (std::int64_t i = threadIdx.x * kPack; i < columns; i += kThreads * kPack) {
        const int count = columns - i < kPack ? static_cast<int>(columns - i) : kPack;
        float v[kPack];
        if (count == kPack) {
            load_whole<float, kPack>(row + i, v);
        } else {
            load_first<float, kPack>(row + i, count, kLowest, v);
        }
        float most = largest;
#pragma unroll
        for (int k = 0; k < kPack; ++k) most = fmaxf(most, v[k]);
        if (most > largest) {
            total *= expf(largest - most);
            largest = most;
        }
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            if (k >= count) continue;
            total += expf(v[k] - (largest == kLowest ? 0.0F : largest));
            if (with_logit_sum) logit_sum += v[k];
        }
    }
    const float most = block_reduce(largest, Larger{}, shared);
    total = block_reduce(largest == kLowest ? total : total * expf(largest - most), Add{}, shared);
    if (with_logit_sum) logit_sum = block_reduce(logit_sum, Add{}, shared);
    return {most, total, logit_sum};
}

// T: storage type of the gradient.
template <class T>
__device__ __forceinline__ void write_gradient(float* row, std::int64_t columns, bool ignored,
                                               std::int64_t label, float shift, float factor,
                                               float constant, float target) {
    T* const out = reinterpret_cast<T*>(row);
    // All threads take every turn: the barrier is theirs together.
    for (std::int64_t base = 0; base < columns; base += kThreads * kPack) {
        const std::int64_t i = base + threadIdx.x * kPack;
        const std::int64_t left = columns - i;
        const int count = left <= 0 ? 0 : left < kPack ? static_cast<int>(left) : kPack;
        float v[kPack] = {};
        if (count == kPack) {
            load_whole<float, kPack>(row + i, v);
        } else {
            load_first<float, kPack>(row + i, count, 0.0F, v);
        }
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            v[k] = expf(v[k] - shift) * factor + constant;
            if (i + k == label) v[k] -= target;
            if (ignored) v[k] = 0;
        }
        __syncthreads();
        if (count == kPack) {
            store_whole<T, kPack>(v, out + i);
        } else {
            store_first<T, kPack>(v, count, out + i);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) loss_rows(const __grid_constant__ LossRows p) {
    __shared__ float shared[32];
    const std::int64_t token = blockIdx.x;
    float* const row = p.logits + token * p.stride;
    std::int64_t label = p.label(token);
    bool ignored = label == p.ignore_index;
    if (!ignored && (label < 0 || label >= p.columns)) {
        if (threadIdx.x == 0) *p.fault = kLabelOutOfRange;
        ignored = true;
    }
    if (ignored) label = -1;
    const double scale = p.grad_losses != nullptr
                             ? static_cast<double>(p.grad_losses[token * p.grad_stride])
                             : p.grad_scale;
    float shift, total;
    double log_sum_exp;
    if (p.knows_sums) {
        shift = p.log_sum_exps[token * p.sums_stride];
        total = 1;
        log_sum_exp = static_cast<double>(shift);
    } else {
        const float label_logit = label >= 0 ? row[label] : 0.0F;
        const bool smooth = p.label_smoothing != 0;
        const RowStatistics s = row_statistics(row, p.columns, smooth, shared);
        shift = s.largest;
        total = s.total;
        log_sum_exp = static_cast<double>(shift) + log(static_cast<double>(total));
        // In double: near-equal numbers are subtracted where logits are large.
        double loss = (1.0 - p.label_smoothing) * (log_sum_exp - static_cast<double>(label_logit));
        if (smooth) {
            const double mean = static_cast<double>(s.logit_sum) / static_cast<double>(p.columns);
            loss += p.label_smoothing * (log_sum_exp - mean);
        }
        loss += p.z_loss * log_sum_exp * log_sum_exp;
        if (threadIdx.x == 0) {
            if (p.losses != nullptr) {
                p.losses[token * p.loss_stride] = ignored ? 0.0F : static_cast<float>(loss);
            }
            if (p.log_sum_exps != nullptr) {
                p.log_sum_exps[token * p.sums_stride] = static_cast<float>(log_sum_exp);
            }
        }
    }
    if (!p.with_gradient) return;
    __syncthreads();  // everyone has read the label's logit
    const auto factor = static_cast<float>(scale * (1.0 + 2.0 * p.z_loss * log_sum_exp) /
                                           static_cast<double>(total));
    const auto constant =
        static_cast<float>(-scale * p.label_smoothing / static_cast<double>(p.columns));
    write_gradient<T>(row, p.columns, ignored, label, shift, factor, constant,
                      static_cast<float>(scale * (1.0 - p.label_smoothing)));
}

// grad_bias (+)= column sums, each in the order of rows.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    add_columns(const T* gradients, std::int64_t rows, std::int64_t stride, std::int64_t columns,
                float* out, std::int64_t out_stride, bool accumulate) {
    const std::int64_t column = thread_number();
    if (column >= columns) return;
    float sum = accumulate ? out[column * out_stride] : 0.0F;
    for (std::int64_t row = 0; row < rows; ++row) {
        sum += to_arithmetic(gradients[row * stride + column]);
    }
    out[column * out_stride] = sum;
}

TensorView matrix(void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                  std::int64_t stride) {
    TensorView view;
    view.data = data;
    view.dtype = dtype;
    view.dimensions = 2;
    view.sizes[0] = rows;
    view.sizes[1] = columns;
    view.strides[0] = stride;
    view.strides[1] = 1;
    return view;
}

TensorView transposed(TensorView view) {
    return {view.data,
            {view.sizes[1], view.sizes[0]},
            {view.strides[1], view.strides[0]},
            2,
            view.dtype,
            view.device};
}

TensorView rows_of(const TensorView& m, std::int64_t first, std::int64_t count) {
    TensorView rows = m;
    rows.data = static_cast<char*>(m.data) + first * m.strides[0] * size_of(m.dtype);
    rows.sizes[0] = count;
    return rows;
}

LossRows loss_rows_of(const LinearCrossEntropyArguments& a, float* logits, std::int64_t stride,
                      std::int64_t first, std::int32_t* fault) {
    LossRows p{};
    p.logits = logits;
    p.stride = stride;
    p.columns = a.weight.size(0);
    p.label_stride = a.labels.stride(0);
    p.labels =
        static_cast<const char*>(a.labels.data) + first * p.label_stride * size_of(a.labels.dtype);
    p.labels_are_wide = a.labels.dtype == DType::i64;
    p.ignore_index = a.ignore_index;
    const auto vector = [first](const TensorView& view, auto& data, std::int64_t& step) {
        if (!view.present()) return;
        step = view.stride(0);
        data = view.as<float>() + first * step;
    };
    vector(a.losses, p.losses, p.loss_stride);
    vector(a.log_sum_exps, p.log_sum_exps, p.sums_stride);
    vector(a.grad_losses, p.grad_losses, p.grad_stride);
    p.label_smoothing = a.label_smoothing;
    p.z_loss = a.z_loss;
    p.grad_scale = static_cast<double>(static_cast<float>(a.grad_scale));
    p.with_gradient = a.grad_hidden.present() || a.grad_weight.present() || a.grad_bias.present();
    p.knows_sums = a.grad_losses.present() && a.log_sum_exps.present();
    p.fault = fault;
    return p;
}

template <class T>
KernelStatus chunk_gradients(const KernelContext& context, const LinearCrossEntropyArguments& a,
                             const TensorView& dlogits, std::int64_t first, bool accumulate) {
    const std::int64_t rows = dlogits.size(0);
    KernelStatus status = kKernelOk;
    if (a.grad_hidden.present()) {
        GemmArguments product;
        product.a = dlogits;
        product.b = a.weight;
        product.c = rows_of(a.grad_hidden, first, rows);
        status = kernel_table().gemm(context, product);
    }
    if (status == kKernelOk && a.grad_weight.present()) {
        GemmArguments product;
        product.a = transposed(dlogits);
        product.b = rows_of(a.hidden, first, rows);
        product.c = a.grad_weight;
        product.accumulate = accumulate ? 1 : 0;
        status = kernel_table().gemm(context, product);
    }
    if (status != kKernelOk || !a.grad_bias.present()) return status;
    const std::int64_t columns = dlogits.size(1);
    add_columns<T><<<static_cast<unsigned>(grid_for(columns, kElementwiseThreads)),
                     kElementwiseThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
        dlogits.as<const T>(), rows, dlogits.stride(0), columns, a.grad_bias.as<float>(),
        a.grad_bias.stride(0), accumulate);
    return finish_launch("linear_cross_entropy: bias", context.stream);
}

template <class T>
KernelStatus run_chunk(const KernelContext& context, const LinearCrossEntropyArguments& a,
                       float* logits, std::int64_t stride, std::int64_t first, std::int64_t rows,
                       std::int32_t* fault) {
    const std::int64_t vocabulary = a.weight.size(0);
    const LossRows p = loss_rows_of(a, logits, stride, first, fault);
    if (rows > 0) {
        GemmArguments product;
        product.a = rows_of(a.hidden, first, rows);
        product.b = transposed(a.weight);
        product.c = matrix(logits, DType::f32, rows, vocabulary, stride);
        product.bias = a.bias;
        KernelStatus status = kernel_table().gemm(context, product);
        if (status != kKernelOk) return status;
        loss_rows<T><<<static_cast<unsigned>(rows), kThreads, 0,
                       static_cast<cudaStream_t>(context.stream)>>>(p);
        status = finish_launch("linear_cross_entropy", context.stream);
        if (status != kKernelOk) return status;
    }
    if (!p.with_gradient) return kKernelOk;
    // T's rows lie where the logits' rows lay.
    const std::int64_t scale = 4 / static_cast<std::int64_t>(sizeof(T));
    const TensorView dlogits = matrix(logits, a.hidden.dtype, rows, vocabulary, stride * scale);
    return chunk_gradients<T>(context, a, dlogits, first, a.accumulate != 0 || first > 0);
}

KernelStatus check_arguments(const LinearCrossEntropyArguments& a) {
    const bool rounds = size_of(a.hidden.dtype) == 2 && a.weight.dtype == DType::f32;
    if (a.weight.dtype != a.hidden.dtype && !rounds) return kKernelUnsupportedDtype;
    if (a.labels.dtype != DType::i64 && a.labels.dtype != DType::i32)
        return kKernelUnsupportedDtype;
    for (const TensorView* view :
         {&a.losses, &a.log_sum_exps, &a.grad_losses, &a.grad_weight, &a.grad_bias}) {
        if (view->present() && view->dtype != DType::f32) return kKernelUnsupportedDtype;
    }
    return kKernelOk;
}

KernelStatus linear_cross_entropy(const KernelContext& context,
                                  const LinearCrossEntropyArguments& arguments) {
    LinearCrossEntropyArguments a = arguments;
    KernelStatus status = check_launch("linear_cross_entropy", context, 1);
    if (status == kKernelOk) status = check_arguments(a);
    DeviceState* const device = current_device();
    if (status != kKernelOk || device == nullptr)
        return status == kKernelOk ? kKernelFailed : status;
    std::optional<Scratch> rounded;
    if (a.weight.dtype != a.hidden.dtype) {  // once for all chunks
        rounded.emplace(a.weight.numel() * 2, context.stream);
        if (!rounded->ok()) return kKernelOutOfMemory;
        const TensorView weight = matrix(rounded->as<void>(), a.hidden.dtype, a.weight.size(0),
                                         a.weight.size(1), a.weight.size(1));
        status = kernel_table().copy(context, a.weight, weight);
        if (status != kKernelOk) return status;
        a.weight = weight;
    }
    const LossChunks chunks = loss_chunks(a.hidden.size(0), a.weight.size(0), a.chunk_rows);
    const Scratch logits(chunks.rows * chunks.stride * 4, context.stream);
    if (!logits.ok()) return kKernelOutOfMemory;
    return with_compute_dtype(a.hidden.dtype, [&](auto tag) -> KernelStatus {
        using T = typename decltype(tag)::type;
        const std::int64_t tokens = a.hidden.size(0);
        // With no tokens at all one empty chunk still clears gradients that are to be overwritten.
        for (std::int64_t first = 0; first < tokens || first == 0; first += chunks.rows) {
            const std::int64_t left = tokens - first;
            const KernelStatus done =
                run_chunk<T>(context, a, logits.as<float>(), chunks.stride, first,
                             left < chunks.rows ? left : chunks.rows, device->fault);
            if (done != kKernelOk || tokens == 0) return done;
        }
        return kKernelOk;
    });
}

}  // namespace

void register_linear_cross_entropy(KernelTable& table) {
    table.linear_cross_entropy = linear_cross_entropy;
}

}  // namespace tempra::cuda
