// softmax(x)_i = exp(x_i - m) / s,  log_softmax(x)_i = (x_i - m) - log s,  m = max x, s = sum exp(x
// - m) Backward, from the output y: g_y . (softmax) dx = y (dy - sum(dy y)); (log) dx = dy - exp(y)
// sum(dy).
//
// Bytes: one read and one write per element from memory; the passes over a row (maximum,
// exponential and sum, scale) find it in cache. For bf16 the exponentials wait in an fp32 row, so
// they are rounded once. Rows are split over threads; a row is one thread's, so results do not
// depend on their number. -inf entries get probability 0. A row of -inf alone, or one with NaN or
// +inf, gives NaN.
#include "kernels/compute_dtype.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "simd/row_loop.h"
#include "simd/vec_math.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class A>
A log_of(A value) {
    return static_cast<A>(__builtin_log(static_cast<double>(value)));
}

template <class A, class T>
A row_maximum(const T* x, std::int64_t columns) {
    const A lowest = -static_cast<A>(__builtin_inf());
    FourVectors<A> best(lowest);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        best.v[k] = maximum<A>(best.v[k], load<A>(x + i, lanes, lowest));
    });
    return best.maximum_of_all();
}

// `exponentials` may be the output row itself.
template <class A, class T>
void softmax_row(const T* x, std::int64_t columns, A* exponentials, T* out) {
    const Vec<A> largest = broadcast<A>(row_maximum<A>(x, columns));
    FourVectors<A> total(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const A lowest = -static_cast<A>(__builtin_inf());
        const Vec<A> e = exp(load<A>(x + i, lanes, lowest) - largest);
        store<A>(exponentials + i, e, lanes);
        total.v[k] += e;
    });
    const Vec<A> scale = broadcast<A>(A(1) / total.sum());
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        store<A>(out + i, load<A>(exponentials + i, lanes) * scale, lanes);
    });
}

template <class A, class T>
void log_softmax_row(const T* x, std::int64_t columns, T* out) {
    const Vec<A> largest = broadcast<A>(row_maximum<A>(x, columns));
    FourVectors<A> total(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const A lowest = -static_cast<A>(__builtin_inf());
        total.v[k] += exp(load<A>(x + i, lanes, lowest) - largest);
    });
    const Vec<A> log_total = broadcast<A>(log_of<A>(total.sum()));
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        store<A>(out + i, (load<A>(x + i, lanes) - largest) - log_total, lanes);
    });
}

template <class T>
KernelStatus softmax_rows(const TensorView& in, bool logarithm, const TensorView& out) {
    using A = Arithmetic<T>;
    const std::int64_t rows = in.size(0), columns = in.size(1);
    constexpr bool kNeedsRow = !__is_same(A, T);
    bool failed = false;
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        const Scratch scratch(kNeedsRow ? columns * static_cast<std::int64_t>(sizeof(A)) : 0);
        if (kNeedsRow && !scratch.ok()) {
            __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
            return;
        }
        for (std::int64_t row = begin; row < end; ++row) {
            const T* x = in.as<T>() + row * in.stride(0);
            T* y = out.as<T>() + row * out.stride(0);
            if (logarithm) {
                log_softmax_row<A>(x, columns, y);
            } else if constexpr (kNeedsRow) {
                softmax_row<A>(x, columns, scratch.as<A>(), y);
            } else {
                softmax_row<A>(x, columns, y, y);
            }
        }
    });
    return failed ? kKernelOutOfMemory : kKernelOk;
}

template <class A, class T>
void softmax_backward_row(const T* y, const T* dy, std::int64_t columns, T* dx) {
    FourVectors<A> dot(0);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        dot.v[k] += load<A>(y + i, lanes) * load<A>(dy + i, lanes);
    });
    const Vec<A> shift = broadcast<A>(dot.sum());
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        store<A>(dx + i, load<A>(y + i, lanes) * (load<A>(dy + i, lanes) - shift), lanes);
    });
}

template <class A, class T>
void log_softmax_backward_row(const T* y, const T* dy, std::int64_t columns, T* dx) {
    FourVectors<A> sum(0);
    for_each_vector_in_turn<A>(
        columns, [&](std::int64_t i, auto lanes, int k) { sum.v[k] += load<A>(dy + i, lanes); });
    const Vec<A> total = broadcast<A>(sum.sum());
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        store<A>(dx + i, load<A>(dy + i, lanes) - exp(load<A>(y + i, lanes)) * total, lanes);
    });
}

template <class T>
void softmax_backward_rows(const TensorView& out, const TensorView& grad_out, bool logarithm,
                           const TensorView& grad_in) {
    using A = Arithmetic<T>;
    const std::int64_t rows = out.size(0), columns = out.size(1);
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* y = out.as<T>() + row * out.stride(0);
            const T* dy = grad_out.as<T>() + row * grad_out.stride(0);
            T* dx = grad_in.as<T>() + row * grad_in.stride(0);
            if (logarithm) {
                log_softmax_backward_row<A>(y, dy, columns, dx);
            } else {
                softmax_backward_row<A>(y, dy, columns, dx);
            }
        }
    });
}

KernelStatus softmax(const KernelContext&, const TensorView& in, std::int32_t logarithm,
                     const TensorView& out) {
    return with_compute_dtype(in.dtype, [&](auto tag) {
        return softmax_rows<typename decltype(tag)::type>(in, logarithm != 0, out);
    });
}

KernelStatus softmax_backward(const KernelContext&, const TensorView& out,
                              const TensorView& grad_out, std::int32_t logarithm,
                              const TensorView& grad_in) {
    return with_compute_dtype(out.dtype, [&](auto tag) {
        softmax_backward_rows<typename decltype(tag)::type>(out, grad_out, logarithm != 0, grad_in);
        return kKernelOk;
    });
}

}  // namespace

void register_softmax(KernelTable& table) {
    table.softmax = softmax;
    table.softmax_backward = softmax_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
