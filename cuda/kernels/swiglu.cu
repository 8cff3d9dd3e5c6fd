// out = silu(gate) * up; backward: grad_gate = grad_out * up * silu'(gate),
// grad_up = grad_out * silu(gate) (Shazeer 2020).
//
// Bytes moved per element: forward two reads and one write, backward three reads and two writes.
// Thread-to-data: one thread per pack of up to 16 bytes where rows are contiguous and aligned, else
// one per element (element_nest.h). fp32 arithmetic, rounded once at the store. Deterministic:
// every element is computed alone.
#include "activation.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

struct GatedSilu {
    __device__ __forceinline__ float operator()(float gate, float up) const {
        return silu(gate) * up;
    }
};

KernelStatus swiglu(const KernelContext& context, const TensorView& gate, const TensorView& up,
                    const TensorView& out) {
    if (gate.dtype != out.dtype || up.dtype != out.dtype) return kKernelUnsupportedDtype;
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return launch_map<T, T, T>("swiglu", context, out, gate, up, GatedSilu{}, GatedSilu{});
    });
}

template <int kPack, class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    swiglu_gradients(const __grid_constant__ ElementNest<5> nest, T* grad_gate, T* grad_up,
                     const T* gate, const T* up, const T* grad_out) {
    const std::int64_t pack = thread_number();
    if (pack >= nest.packs) return;
    std::int64_t offset[5];
    nest.offsets(pack, offset);
    const int count = kPack == 1 ? 1 : nest.elements_in(pack);
    float x[kPack], u[kPack], g[kPack];
    load_operand<T, kPack>(gate, offset[2], nest.broadcast_inside[2], count, x);
    load_operand<T, kPack>(up, offset[3], nest.broadcast_inside[3], count, u);
    load_operand<T, kPack>(grad_out, offset[4], nest.broadcast_inside[4], count, g);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
        u[i] = g[i] * u[i] * silu_derivative(x[i]);
        g[i] = g[i] * silu(x[i]);
    }
    store_operand<T, kPack>(u, count, grad_gate + offset[0]);
    store_operand<T, kPack>(g, count, grad_up + offset[1]);
}

KernelStatus swiglu_backward(const KernelContext& context, const TensorView& gate,
                             const TensorView& up, const TensorView& grad_out,
                             const TensorView& grad_gate, const TensorView& grad_up) {
    const TensorView* const views[5] = {&grad_gate, &grad_up, &gate, &up, &grad_out};
    for (const TensorView* view : views) {
        if (view->dtype != gate.dtype) return kKernelUnsupportedDtype;
    }
    const ElementNest<5> nest = element_nest(views);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("swiglu_backward", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    return with_compute_dtype(gate.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto kernel =
            nest.pack == 1 ? swiglu_gradients<1, T> : swiglu_gradients<kPackOf<T>, T>;
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(
            nest, grad_gate.as<T>(), grad_up.as<T>(), gate.as<const T>(), up.as<const T>(),
            grad_out.as<const T>());
        return finish_launch("swiglu_backward", context.stream);
    });
}

}  // namespace

void register_swiglu(KernelTable& table) {
    table.swiglu = swiglu;
    table.swiglu_backward = swiglu_backward;
}

}  // namespace tempra::cuda
