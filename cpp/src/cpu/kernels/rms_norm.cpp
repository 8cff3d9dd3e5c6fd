// y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + epsilon), per row (Zhang & Sennrich 2019)
// Backward, with xhat = x * rstd and g = dy * weight:
//   dx = rstd * (g - xhat * mean(g * xhat)),  dweight += sum_rows dy * xhat
//
// Bytes per element: forward one read and one write, backward two reads and one write; the second
// pass over a row finds it in cache. Rows are split over threads; the weight gradient goes through
// a fixed number of partial rows (row_partials.h), so results do not depend on the number of
// threads.
#include "kernels/compute_dtype.h"
#include "kernels/register.h"
#include "kernels/row_partials.h"
#include "simd/row_loop.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class T, class W>
void rms_norm_rows(const TensorView& x, const W* weight, double epsilon, const TensorView& out,
                   const TensorView& rstd) {
    using A = Arithmetic<T>;
    const std::int64_t rows = x.size(0), columns = x.size(1);
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* in = x.as<T>() + row * x.stride(0);
            T* y = out.as<T>() + row * out.stride(0);
            FourVectors<A> squares(0);
            for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
                const Vec<A> v = load<A>(in + i, lanes);
                squares.v[k] += v * v;
            });
            const A row_rstd = reciprocal_square_root(squares.sum() / static_cast<A>(columns) +
                                                      static_cast<A>(epsilon));
            const Vec<A> scale = broadcast<A>(row_rstd);
            for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
                Vec<A> v = load<A>(in + i, lanes) * scale;
                if (weight != nullptr) v *= load<A>(weight + i, lanes);
                store<A>(y + i, v, lanes);
            });
            if (rstd.present()) rstd.as<A>()[row * rstd.stride(0)] = row_rstd;
        }
    });
}

// One row: adds into the partial sums (null where not asked for) and writes dx (null likewise).
template <class A, class T, class W>
void backward_row(const T* dy, const T* x, const W* weight, A rstd, std::int64_t columns,
                  A* weight_sums, T* dx) {
    const Vec<A> scale = broadcast<A>(rstd);
    FourVectors<A> sum_gx(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const Vec<A> dx_hat = load<A>(dy + i, lanes) * (load<A>(x + i, lanes) * scale);
        sum_gx.v[k] += weight != nullptr ? dx_hat * load<A>(weight + i, lanes) : dx_hat;
        if (weight_sums != nullptr) {
            store<A>(weight_sums + i, load<A>(weight_sums + i, lanes) + dx_hat, lanes);
        }
    });
    if (dx == nullptr) return;
    const Vec<A> mean_gx = broadcast<A>(sum_gx.sum() / static_cast<A>(columns));
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        Vec<A> g = load<A>(dy + i, lanes);
        if (weight != nullptr) g *= load<A>(weight + i, lanes);
        store<A>(dx + i, scale * (g - load<A>(x + i, lanes) * scale * mean_gx), lanes);
    });
}

template <class T, class W>
KernelStatus rms_norm_backward_rows(const TensorView& grad_out, const TensorView& x,
                                    const W* weight, const TensorView& rstd,
                                    const TensorView& grad_x, const TensorView& grad_weight) {
    using A = Arithmetic<T>;
    const std::int64_t rows = x.size(0), columns = x.size(1);
    if (rows == 0 || columns == 0) return kKernelOk;
    const RowChunks chunks = row_chunks(rows, columns);
    const std::int64_t stride = padded_columns<A>(columns);
    const Scratch scratch(
        grad_weight.present() ? chunks.count * stride * static_cast<std::int64_t>(sizeof(A)) : 0);
    if (!scratch.ok()) return kKernelOutOfMemory;
    A* const partials = grad_weight.present() ? scratch.as<A>() : nullptr;
    parallel_for(rows, chunks.rows_each, [&](std::int64_t begin, std::int64_t end) {
        A* sums = partials != nullptr ? partials + begin / chunks.rows_each * stride : nullptr;
        if (sums != nullptr) clear_row(sums, columns);
        for (std::int64_t row = begin; row < end; ++row) {
            backward_row<A>(grad_out.as<T>() + row * grad_out.stride(0),
                            x.as<T>() + row * x.stride(0), weight,
                            rstd.as<A>()[row * rstd.stride(0)], columns, sums,
                            grad_x.present() ? grad_x.as<T>() + row * grad_x.stride(0) : nullptr);
        }
    });
    if (partials != nullptr) {
        add_partial_rows(partials, stride, chunks.count, columns, grad_weight.as<A>());
    }
    return kKernelOk;
}

KernelStatus rms_norm(const KernelContext&, const TensorView& x, const TensorView& weight,
                      double epsilon, const TensorView& out, const TensorView& rstd) {
    const DType parameter_dtype = weight.present() ? weight.dtype : x.dtype;
    return with_compute_dtype(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return with_parameter_dtype<T>(x.dtype, parameter_dtype, [&](auto parameter_tag) {
            using W = typename decltype(parameter_tag)::type;
            rms_norm_rows<T, W>(x, weight.as<W>(), epsilon, out, rstd);
            return kKernelOk;
        });
    });
}

KernelStatus rms_norm_backward(const KernelContext&, const TensorView& grad_out,
                               const TensorView& x, const TensorView& weight,
                               const TensorView& rstd, const TensorView& grad_x,
                               const TensorView& grad_weight) {
    const DType parameter_dtype = weight.present() ? weight.dtype : x.dtype;
    return with_compute_dtype(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return with_parameter_dtype<T>(x.dtype, parameter_dtype, [&](auto parameter_tag) {
            using W = typename decltype(parameter_tag)::type;
            return rms_norm_backward_rows<T, W>(grad_out, x, weight.as<W>(), rstd, grad_x,
                                                grad_weight);
        });
    });
}

}  // namespace

void register_rms_norm(KernelTable& table) {
    table.rms_norm = rms_norm;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
