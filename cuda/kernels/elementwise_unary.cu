// out = f(in).
//
// Bytes moved: in once, out once; nothing is kept. Thread-to-data: one thread per pack of up to 16
// bytes where rows are contiguous and aligned, else one per element (element_nest.h); the tail of a
// single row goes element by element. fp32 arithmetic, rounded once at the store. Deterministic:
// every element is computed alone.
#include "activation.cuh"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

__device__ __forceinline__ float sign(float x) {
    return x < 0.0F ? -1.0F : (x > 0.0F ? 1.0F : x);  // NaN and zeros stay
}

__device__ __forceinline__ float apply(UnaryOp op, float x) {
    switch (op) {
        case UnaryOp::negative: return -x;
        case UnaryOp::absolute: return fabsf(x);
        case UnaryOp::exp: return expf(x);
        case UnaryOp::log: return logf(x);
        case UnaryOp::log1p: return log1pf(x);
        case UnaryOp::expm1: return expm1f(x);
        case UnaryOp::sqrt: return sqrtf(x);
        case UnaryOp::rsqrt: return 1.0F / sqrtf(x);
        case UnaryOp::reciprocal: return 1.0F / x;
        case UnaryOp::square: return x * x;
        case UnaryOp::sin: return sinf(x);
        case UnaryOp::cos: return cosf(x);
        case UnaryOp::tanh: return tanhf(x);
        case UnaryOp::erf: return erff(x);
        case UnaryOp::sigmoid: return logistic(x);
        case UnaryOp::relu: return relu(x);
        case UnaryOp::silu: return silu(x);
        // log(1 + exp(x)) without overflow
        case UnaryOp::softplus: return relu(x) + log1pf(expf(-fabsf(x)));
        case UnaryOp::gelu: return gelu(x);
        case UnaryOp::gelu_tanh: return gelu_tanh(x);
        case UnaryOp::sign: return sign(x);
        case UnaryOp::floor: return floorf(x);
        case UnaryOp::ceil: return ceilf(x);
        case UnaryOp::round: return rintf(x);
        default: return x;  // the tests, which have a kernel of their own
    }
}

template <class A>
__device__ __forceinline__ std::uint8_t test(UnaryOp op, A x) {
    switch (op) {
        case UnaryOp::logical_not: return x == A(0);
        case UnaryOp::is_nan: return x != x;
        default: return x - x == A(0);  // is_finite
    }
}

template <UnaryOp kOp>
struct Fixed {
    __device__ __forceinline__ float operator()(float x) const { return apply(kOp, x); }
};
struct Chosen {
    UnaryOp op;
    __device__ __forceinline__ float operator()(float x) const { return apply(op, x); }
};
struct Test {
    UnaryOp op;
    template <class A>
    __device__ __forceinline__ std::uint8_t operator()(A x) const {
        return test(op, x);
    }
};

template <class T, UnaryOp kOp>
KernelStatus launch_fixed(const KernelContext& context, const TensorView& in,
                          const TensorView& out) {
    return launch_map<T, T>("unary", context, out, in, Fixed<kOp>{}, Chosen{kOp});
}

template <class T, int kFirst>
KernelStatus launch_arithmetic(UnaryOp op, const KernelContext& context, const TensorView& in,
                               const TensorView& out) {
    // Arithmetic operations come first in UnaryOp, tests from logical_not on.
    if constexpr (kFirst < static_cast<int>(UnaryOp::logical_not)) {
        constexpr auto kOp = static_cast<UnaryOp>(kFirst);
        if (op == kOp) return launch_fixed<T, kOp>(context, in, out);
        return launch_arithmetic<T, kFirst + 1>(op, context, in, out);
    } else {
        return fail(kKernelFailed, "unary: unknown operation");
    }
}

KernelStatus launch_test(UnaryOp op, const KernelContext& context, const TensorView& in,
                         const TensorView& out) {
    using Truth = std::uint8_t;
    switch (in.dtype) {
        case DType::f32:
            return launch_map<Truth, float>("unary", context, out, in, Test{op}, Test{op});
        case DType::bf16:
            return launch_map<Truth, bfloat16>("unary", context, out, in, Test{op}, Test{op});
        case DType::f16:
            return launch_map<Truth, float16>("unary", context, out, in, Test{op}, Test{op});
        case DType::u8:
        case DType::boolean:
            return launch_map<Truth, std::uint8_t>("unary", context, out, in, Test{op}, Test{op});
        default: return kKernelUnsupportedDtype;
    }
}

KernelStatus unary(const KernelContext& context, UnaryOp op, const TensorView& in,
                   const TensorView& out) {
    const bool is_test = op >= UnaryOp::logical_not && op < UnaryOp::count_;
    if (out.dtype != (is_test ? DType::boolean : in.dtype)) return kKernelUnsupportedDtype;
    if (is_test) return launch_test(op, context, in, out);
    switch (in.dtype) {
        case DType::f32: return launch_arithmetic<float, 0>(op, context, in, out);
        case DType::bf16: return launch_arithmetic<bfloat16, 0>(op, context, in, out);
        case DType::f16: return launch_arithmetic<float16, 0>(op, context, in, out);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_elementwise_unary(KernelTable& table) { table.unary = unary; }

}  // namespace tempra::cuda
