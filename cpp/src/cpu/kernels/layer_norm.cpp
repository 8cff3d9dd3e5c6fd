// y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(variance + epsilon), per row
// Backward, with xhat = (x - mean) * rstd and g = dy * weight:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dweight += sum_rows dy * xhat,  dbias +=
//   sum_rows dy
//
// Bytes per element: forward one read and one write, backward two reads and one write; the later
// passes over a row find it in cache. The variance is a second pass over x - mean, which large
// means do not harm. Rows are split over threads; the weight and bias gradients go through a fixed
// number of partial rows (row_partials.h), so results do not depend on the number of threads.
#include "kernels/compute_dtype.h"
#include "kernels/register.h"
#include "kernels/row_partials.h"
#include "simd/row_loop.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class A, class T>
void row_statistics(const T* x, std::int64_t columns, A epsilon, A* mean_out, A* rstd_out) {
    FourVectors<A> sum(0);
    for_each_vector_in_turn<A>(
        columns, [&](std::int64_t i, auto lanes, int k) { sum.v[k] += load<A>(x + i, lanes); });
    const A mean = sum.sum() / static_cast<A>(columns);
    const Vec<A> center = broadcast<A>(mean);
    FourVectors<A> squares(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const Vec<A> d = load<A>(x + i, lanes, mean) - center;  // 0 in the lanes past the end
        squares.v[k] += d * d;
    });
    *mean_out = mean;
    *rstd_out = reciprocal_square_root(squares.sum() / static_cast<A>(columns) + epsilon);
}

// W is the storage type of weight and bias; null where absent.
template <class T, class W>
void layer_norm_rows(const TensorView& x, const W* weight, const W* bias, double epsilon,
                     const TensorView& out, const TensorView& mean, const TensorView& rstd) {
    using A = Arithmetic<T>;
    const std::int64_t rows = x.size(0), columns = x.size(1);
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* in = x.as<T>() + row * x.stride(0);
            T* y = out.as<T>() + row * out.stride(0);
            A row_mean, row_rstd;
            row_statistics<A>(in, columns, static_cast<A>(epsilon), &row_mean, &row_rstd);
            const Vec<A> center = broadcast<A>(row_mean), scale = broadcast<A>(row_rstd);
            for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
                Vec<A> v = (load<A>(in + i, lanes) - center) * scale;
                if (weight != nullptr) v *= load<A>(weight + i, lanes);
                if (bias != nullptr) v += load<A>(bias + i, lanes);
                store<A>(y + i, v, lanes);
            });
            if (mean.present()) mean.as<A>()[row * mean.stride(0)] = row_mean;
            if (rstd.present()) rstd.as<A>()[row * rstd.stride(0)] = row_rstd;
        }
    });
}

// One row: adds into the partial sums (null where not asked for) and writes dx (null likewise).
template <class A, class T, class W>
void backward_row(const T* dy, const T* x, const W* weight, A mean, A rstd, std::int64_t columns,
                  A* weight_sums, A* bias_sums, T* dx) {
    const Vec<A> center = broadcast<A>(mean), scale = broadcast<A>(rstd);
    FourVectors<A> sum_g(0), sum_gx(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const Vec<A> d = load<A>(dy + i, lanes);
        const Vec<A> xhat = (load<A>(x + i, lanes, mean) - center) * scale;
        const Vec<A> g = weight != nullptr ? d * load<A>(weight + i, lanes) : d;
        sum_g.v[k] += g;
        sum_gx.v[k] += g * xhat;
        if (weight_sums != nullptr) {
            store<A>(weight_sums + i, load<A>(weight_sums + i, lanes) + d * xhat, lanes);
        }
        if (bias_sums != nullptr) {
            store<A>(bias_sums + i, load<A>(bias_sums + i, lanes) + d, lanes);
        }
    });
    if (dx == nullptr) return;
    const Vec<A> mean_g = broadcast<A>(sum_g.sum() / static_cast<A>(columns));
    const Vec<A> mean_gx = broadcast<A>(sum_gx.sum() / static_cast<A>(columns));
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        const Vec<A> xhat = (load<A>(x + i, lanes) - center) * scale;
        Vec<A> g = load<A>(dy + i, lanes);
        if (weight != nullptr) g *= load<A>(weight + i, lanes);
        store<A>(dx + i, scale * (g - mean_g - xhat * mean_gx), lanes);
    });
}

template <class T, class W>
KernelStatus layer_norm_backward_rows(const TensorView& grad_out, const TensorView& x,
                                      const W* weight, const TensorView& mean,
                                      const TensorView& rstd, const TensorView& grad_x,
                                      const TensorView& grad_weight, const TensorView& grad_bias) {
    using A = Arithmetic<T>;
    const std::int64_t rows = x.size(0), columns = x.size(1);
    if (rows == 0 || columns == 0) return kKernelOk;
    const RowChunks chunks = row_chunks(rows, columns);
    const std::int64_t stride = padded_columns<A>(columns);
    const std::int64_t sums = (grad_weight.present() ? 1 : 0) + (grad_bias.present() ? 1 : 0);
    const Scratch scratch(chunks.count * sums * stride * static_cast<std::int64_t>(sizeof(A)));
    if (!scratch.ok()) return kKernelOutOfMemory;
    A* const weight_partials = grad_weight.present() ? scratch.as<A>() : nullptr;
    A* const bias_partials =
        grad_bias.present() ? scratch.as<A>() + (sums - 1) * chunks.count * stride : nullptr;
    parallel_for(rows, chunks.rows_each, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t offset = begin / chunks.rows_each * stride;
        A* weight_sums = weight_partials != nullptr ? weight_partials + offset : nullptr;
        A* bias_sums = bias_partials != nullptr ? bias_partials + offset : nullptr;
        if (weight_sums != nullptr) clear_row(weight_sums, columns);
        if (bias_sums != nullptr) clear_row(bias_sums, columns);
        for (std::int64_t row = begin; row < end; ++row) {
            backward_row<A>(grad_out.as<T>() + row * grad_out.stride(0),
                            x.as<T>() + row * x.stride(0), weight,
                            mean.as<A>()[row * mean.stride(0)], rstd.as<A>()[row * rstd.stride(0)],
                            columns, weight_sums, bias_sums,
                            grad_x.present() ? grad_x.as<T>() + row * grad_x.stride(0) : nullptr);
        }
    });
    if (weight_partials != nullptr) {
        add_partial_rows(weight_partials, stride, chunks.count, columns, grad_weight.as<A>());
    }
    if (bias_partials != nullptr) {
        add_partial_rows(bias_partials, stride, chunks.count, columns, grad_bias.as<A>());
    }
    return kKernelOk;
}

KernelStatus layer_norm(const KernelContext&, const TensorView& x, const TensorView& weight,
                        const TensorView& bias, double epsilon, const TensorView& out,
                        const TensorView& mean, const TensorView& rstd) {
    if (weight.present() && bias.present() && weight.dtype != bias.dtype) {
        return kKernelUnsupportedDtype;
    }
    const DType parameter_dtype =
        weight.present() ? weight.dtype : (bias.present() ? bias.dtype : x.dtype);
    return with_compute_dtype(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return with_parameter_dtype<T>(x.dtype, parameter_dtype, [&](auto parameter_tag) {
            using W = typename decltype(parameter_tag)::type;
            layer_norm_rows<T, W>(x, weight.as<W>(), bias.as<W>(), epsilon, out, mean, rstd);
            return kKernelOk;
        });
    });
}

KernelStatus layer_norm_backward(const KernelContext&, const TensorView& grad_out,
                                 const TensorView& x, const TensorView& weight,
                                 const TensorView& mean, const TensorView& rstd,
                                 const TensorView& grad_x, const TensorView& grad_weight,
                                 const TensorView& grad_bias) {
    const DType parameter_dtype = weight.present() ? weight.dtype : x.dtype;
    return with_compute_dtype(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return with_parameter_dtype<T>(x.dtype, parameter_dtype, [&](auto parameter_tag) {
            using W = typename decltype(parameter_tag)::type;
            return layer_norm_backward_rows<T, W>(grad_out, x, weight.as<W>(), mean, rstd, grad_x,
                                                  grad_weight, grad_bias);
        });
    });
}

}  // namespace

void register_layer_norm(KernelTable& table) {
    table.layer_norm = layer_norm;
    table.layer_norm_backward = layer_norm_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
