// grad_in = grad_out * f'(in), with f' from the output where that is simplest.
//
// Bytes moved: the input or the output once, grad_out once, grad_in once. Thread-to-data: as for
// the forward pass (element_nest.h): one thread per pack of 16 bytes, else one per element. fp32
// arithmetic, rounded once at the store. Deterministic: every element is computed alone.
#include "activation.cuh"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

constexpr bool derivative_uses_output(UnaryOp op) {
    switch (op) {
        case UnaryOp::exp:
        case UnaryOp::sqrt:
        case UnaryOp::rsqrt:
        case UnaryOp::reciprocal:
        case UnaryOp::tanh:
        case UnaryOp::sigmoid: return true;
        default: return false;
    }
}

// x is the input or, where derivative_uses_output, the output.
__device__ __forceinline__ float apply(UnaryOp op, float x, float g) {
    switch (op) {
        case UnaryOp::negative: return -g;
        case UnaryOp::absolute: return g * (x < 0.0F ? -1.0F : (x > 0.0F ? 1.0F : x));
        case UnaryOp::exp: return g * x;
        case UnaryOp::log: return g / x;
        case UnaryOp::log1p: return g / (x + 1.0F);
        case UnaryOp::expm1: return g * expf(x);
        case UnaryOp::sqrt: return g / (x + x);
        case UnaryOp::rsqrt: return g * (-0.5F * x * x * x);
        case UnaryOp::reciprocal: return -g * (x * x);
        case UnaryOp::square: return g * (x + x);
        case UnaryOp::sin: return g * cosf(x);
        case UnaryOp::cos: return -g * sinf(x);
        case UnaryOp::tanh: return g * ((1.0F - x) * (1.0F + x));
        case UnaryOp::erf: return g * (1.12837917F * expf(-x * x));  // 2 / sqrt(pi)
        case UnaryOp::sigmoid: return g * (x * (1.0F - x));
        case UnaryOp::relu: return x <= 0.0F ? 0.0F : g;
        case UnaryOp::silu: return g * silu_derivative(x);
        case UnaryOp::softplus: return g * logistic(x);
        case UnaryOp::gelu: return g * gelu_derivative(x);
        case UnaryOp::gelu_tanh: return g * gelu_tanh_derivative(x);
        default: return 0.0F;  // sign and the roundings: constant almost everywhere
    }
}

template <UnaryOp kOp>
struct Fixed {
    __device__ __forceinline__ float operator()(float x, float g) const { return apply(kOp, x, g); }
};
struct Chosen {
    UnaryOp op;
    __device__ __forceinline__ float operator()(float x, float g) const { return apply(op, x, g); }
};

template <class T, int kFirst>
KernelStatus launch(UnaryOp op, const KernelContext& context, const TensorView& saved,
                    const TensorView& grad_out, const TensorView& grad_in) {
    if constexpr (kFirst < static_cast<int>(UnaryOp::logical_not)) {
        constexpr auto kOp = static_cast<UnaryOp>(kFirst);
        if (op == kOp) {
            return launch_map<T, T, T>("unary_backward", context, grad_in, saved, grad_out,
                                       Fixed<kOp>{}, Chosen{kOp});
        }
        return launch<T, kFirst + 1>(op, context, saved, grad_out, grad_in);
    } else {
        return fail(kKernelFailed, "unary_backward: the operation has no derivative");
    }
}

KernelStatus unary_backward(const KernelContext& context, UnaryOp op, const TensorView& in,
                            const TensorView& out, const TensorView& grad_out,
                            const TensorView& grad_in) {
    const TensorView& saved = derivative_uses_output(op) ? out : in;
    if (!saved.present()) {
        return fail(kKernelFailed, "unary_backward: the saved tensor is absent");
    }
    if (saved.dtype != grad_in.dtype || grad_out.dtype != grad_in.dtype) {
        return kKernelUnsupportedDtype;
    }
    switch (grad_in.dtype) {
        case DType::f32: return launch<float, 0>(op, context, saved, grad_out, grad_in);
        case DType::bf16: return launch<bfloat16, 0>(op, context, saved, grad_out, grad_in);
        case DType::f16: return launch<float16, 0>(op, context, saved, grad_out, grad_in);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_elementwise_unary_backward(KernelTable& table) {
    table.unary_backward = unary_backward;
}

}  // namespace tempra::cuda
