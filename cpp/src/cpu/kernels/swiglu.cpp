// out = silu(gate) * up,  silu(g) = g / (1 + exp(-g)) (Shazeer 2020)
// Backward, with s = 1 / (1 + exp(-gate)):
//   dup = dout * gate * s,  dgate = dout * up * s * (1 + gate * (1 - s))
//
// Bytes per element: forward two reads and one write, backward three reads and two writes; all
// intermediate values stay in registers. gate and up may be halves of one buffer (row strides are
// free). Rows are split over threads; each element is computed alone. The next row is asked for
// while this one is computed: rows of a few hundred elements are too short for the prefetchers.
#include "kernels/compute_dtype.h"
#include "kernels/register.h"
#include "simd/row_loop.h"
#include "simd/vec_math.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class T>
void swiglu_rows(const TensorView& gate, const TensorView& up, const TensorView& out) {
    using A = Arithmetic<T>;
    const std::int64_t rows = gate.size(0), columns = gate.size(1);
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* gate_row = gate.as<T>() + row * gate.stride(0);
            const T* up_row = up.as<T>() + row * up.stride(0);
            T* out_row = out.as<T>() + row * out.stride(0);
            for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
                __builtin_prefetch(gate_row + gate.stride(0) + i);
                __builtin_prefetch(up_row + up.stride(0) + i);
                const Vec<A> g = load<A>(gate_row + i, lanes);
                const Vec<A> silu = g / (A(1) + exp(-g));
                store<A>(out_row + i, silu * load<A>(up_row + i, lanes), lanes);
            });
        }
    });
}

template <class T>
void swiglu_backward_rows(const TensorView& gate, const TensorView& up, const TensorView& grad_out,
                          const TensorView& grad_gate, const TensorView& grad_up) {
    using A = Arithmetic<T>;
    const std::int64_t rows = gate.size(0), columns = gate.size(1);
    parallel_for(rows, rows_per_chunk(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* gate_row = gate.as<T>() + row * gate.stride(0);
            const T* up_row = up.as<T>() + row * up.stride(0);
            const T* grad_row = grad_out.as<T>() + row * grad_out.stride(0);
            T* grad_gate_row = grad_gate.as<T>() + row * grad_gate.stride(0);
            T* grad_up_row = grad_up.as<T>() + row * grad_up.stride(0);
            for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
                __builtin_prefetch(gate_row + gate.stride(0) + i);
                __builtin_prefetch(up_row + up.stride(0) + i);
                __builtin_prefetch(grad_row + grad_out.stride(0) + i);
                const Vec<A> g = load<A>(gate_row + i, lanes), u = load<A>(up_row + i, lanes);
                const Vec<A> d = load<A>(grad_row + i, lanes);
                const Vec<A> s = A(1) / (A(1) + exp(-g));
                const Vec<A> ds = d * s;
                store<A>(grad_up_row + i, ds * g, lanes);
                store<A>(grad_gate_row + i, ds * u * (A(1) + g * (A(1) - s)), lanes);
            });
        }
    });
}

KernelStatus swiglu(const KernelContext&, const TensorView& gate, const TensorView& up,
                    const TensorView& out) {
    return with_compute_dtype(gate.dtype, [&](auto tag) {
        swiglu_rows<typename decltype(tag)::type>(gate, up, out);
        return kKernelOk;
    });
}

KernelStatus swiglu_backward(const KernelContext&, const TensorView& gate, const TensorView& up,
                             const TensorView& grad_out, const TensorView& grad_gate,
                             const TensorView& grad_up) {
    return with_compute_dtype(gate.dtype, [&](auto tag) {
        swiglu_backward_rows<typename decltype(tag)::type>(gate, up, grad_out, grad_gate, grad_up);
        return kKernelOk;
    });
}

}  // namespace

void register_swiglu(KernelTable& table) {
    table.swiglu = swiglu;
    table.swiglu_backward = swiglu_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
