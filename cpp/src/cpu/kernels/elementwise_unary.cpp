// out = f(in), and grad_in = grad_out * f'(in).
//
// Bytes moved: each operand once. Mapping: fixed chunks of elements over threads, whole vectors
// within (strided_loop.h, block_map.h). Arithmetic in fp32 (f64 for f64), rounded once at the
// store; expensive functions of many bf16 numbers are looked up (unary_tables.h). Deterministic:
// every element is computed alone.
#include "kernels/block_map.h"
#include "kernels/register.h"
#include "kernels/unary_functions.h"
#include "kernels/unary_tables.h"
#include "simd/activation.h"
#include "simd/float16_convert.h"
#include "simd/vec_power.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class V>
inline V sign(V x) {
    using A = ElementOf<V>;
    const V positive = x > A(0) ? broadcast<A>(A(1)) : x;
    return x < A(0) ? broadcast<A>(A(-1)) : positive;
}

// log(1 + exp(x)) without overflow: max(x, 0) + log1p(exp(-|x|)).
template <class V>
inline V softplus(V x) {
    using A = ElementOf<V>;
    const V above = x < A(0) ? V{} : x;
    return above + log1p(exp(-absolute(x)));
}

template <class V>
inline V sigmoid(V x) {
    return activation_detail::logistic<ElementOf<V>>(x);
}

template <class T>
BlockFunction arithmetic_unary(UnaryOp op) {
    switch (op) {
        case UnaryOp::negative: return unary_block<T>([](auto x) { return -x; });
        case UnaryOp::absolute: return unary_block<T>([](auto x) { return absolute(x); });
        case UnaryOp::exp: return unary_block<T>([](auto x) { return exp(x); });
        case UnaryOp::log: return unary_block<T>([](auto x) { return log(x); });
        case UnaryOp::log1p: return unary_block<T>([](auto x) { return log1p(x); });
        case UnaryOp::expm1: return unary_block<T>([](auto x) { return expm1(x); });
        case UnaryOp::sqrt:
            return unary_block<T>([](auto x) { return square_root<ElementOf<decltype(x)>>(x); });
        case UnaryOp::rsqrt:
            return unary_block<T>([](auto x) {
                using A = ElementOf<decltype(x)>;
                return A(1) / square_root<A>(x);
            });
        case UnaryOp::reciprocal:
            return unary_block<T>([](auto x) { return ElementOf<decltype(x)>(1) / x; });
        case UnaryOp::square: return unary_block<T>([](auto x) { return x * x; });
        case UnaryOp::sin: return unary_block<T>([](auto x) { return sin(x); });
        case UnaryOp::cos: return unary_block<T>([](auto x) { return cos(x); });
        case UnaryOp::tanh: return unary_block<T>([](auto x) { return tanh(x); });
        case UnaryOp::erf: return unary_block<T>([](auto x) { return erf(x); });
        case UnaryOp::sigmoid: return unary_block<T>([](auto x) { return sigmoid(x); });
        case UnaryOp::relu:
            return unary_block<T>([](auto x) { return relu<ElementOf<decltype(x)>>(x); });
        case UnaryOp::silu:
            return unary_block<T>([](auto x) { return silu<ElementOf<decltype(x)>>(x); });
        case UnaryOp::softplus: return unary_block<T>([](auto x) { return softplus(x); });
        case UnaryOp::gelu:
            return unary_block<T>([](auto x) { return gelu<ElementOf<decltype(x)>>(x); });
        case UnaryOp::gelu_tanh:
            return unary_block<T>([](auto x) { return gelu_tanh<ElementOf<decltype(x)>>(x); });
        case UnaryOp::sign: return unary_block<T>([](auto x) { return sign(x); });
        case UnaryOp::floor: return unary_block<T>([](auto x) { return floor(x); });
        case UnaryOp::ceil: return unary_block<T>([](auto x) { return ceil(x); });
        case UnaryOp::round: return unary_block<T>([](auto x) { return round(x); });
        default: return nullptr;
    }
}

[[maybe_unused]] inline float value_of(float16 x) { return float16_to_float(x); }
template <class T>
inline auto value_of(T x) {
    if constexpr (__is_same(T, bfloat16)) {
        return to_arithmetic(x);
    } else {
        return x;
    }
}

template <class T>
inline bool is_not_a_number(T x) {
    return x != x;
}
template <class T>
inline bool is_finite_number(T x) {
    return x - x == T(0);
}

// Tests, for any dtype; `out` is bool.
template <class T>
BlockFunction test_unary(UnaryOp op) {
    using Truth = std::uint8_t;
    switch (op) {
        case UnaryOp::logical_not:
            return unary_scalar_block<T, Truth>([](T x) { return value_of(x) == 0; });
        case UnaryOp::is_finite:
            return unary_scalar_block<T, Truth>([](T x) { return is_finite_number(value_of(x)); });
        case UnaryOp::is_nan:
            return unary_scalar_block<T, Truth>([](T x) { return is_not_a_number(value_of(x)); });
        default: return nullptr;
    }
}

BlockFunction test_unary_of(UnaryOp op, DType dtype) {
    switch (dtype) {
        case DType::f32: return test_unary<float>(op);
        case DType::bf16: return test_unary<bfloat16>(op);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return test_unary<double>(op);
        case DType::f16: return test_unary<float16>(op);
        case DType::i64: return test_unary<std::int64_t>(op);
        case DType::i32: return test_unary<std::int32_t>(op);
        case DType::u32: return test_unary<std::uint32_t>(op);
        case DType::u16: return test_unary<std::uint16_t>(op);
#endif
        case DType::u8:
        case DType::boolean: return test_unary<std::uint8_t>(op);
        default: return nullptr;
    }
}

#if defined(TEMPRA_ISA_IS_baseline)
// The operations that stay within the integers; the most negative number wraps.
template <class T, class Unsigned>
BlockFunction integer_unary(UnaryOp op) {
    switch (op) {
        case UnaryOp::negative:
            return unary_scalar_block<T, T>(
                [](T x) { return static_cast<T>(Unsigned{0} - static_cast<Unsigned>(x)); });
        case UnaryOp::absolute:
            return unary_scalar_block<T, T>([](T x) {
                const Unsigned bits = static_cast<Unsigned>(x);
                return static_cast<T>(x < 0 ? Unsigned{0} - bits : bits);
            });
        case UnaryOp::square:
            return unary_scalar_block<T, T>([](T x) {
                return static_cast<T>(static_cast<Unsigned>(x) * static_cast<Unsigned>(x));
            });
        case UnaryOp::relu: return unary_scalar_block<T, T>([](T x) { return x > 0 ? x : T(0); });
        case UnaryOp::sign:
            return unary_scalar_block<T, T>([](T x) { return static_cast<T>((x > 0) - (x < 0)); });
        case UnaryOp::floor:
        case UnaryOp::ceil:
        case UnaryOp::round: return unary_scalar_block<T, T>([](T x) { return x; });
        default: return nullptr;
    }
}
#endif

}  // namespace

BlockFunction unary_function(UnaryOp op, DType dtype) {
    switch (dtype) {
        case DType::f32: return arithmetic_unary<float>(op);
        case DType::bf16: return arithmetic_unary<bfloat16>(op);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return arithmetic_unary<double>(op);
        case DType::i64: return integer_unary<std::int64_t, std::uint64_t>(op);
        case DType::i32: return integer_unary<std::int32_t, std::uint32_t>(op);
#endif
        default: return nullptr;
    }
}

namespace {

KernelStatus unary(const KernelContext&, UnaryOp op, const TensorView& in, const TensorView& out) {
    const bool is_test =
        op == UnaryOp::logical_not || op == UnaryOp::is_finite || op == UnaryOp::is_nan;
    if (out.dtype != (is_test ? DType::boolean : in.dtype)) return kKernelUnsupportedDtype;
    const BlockFunction block =
        is_test ? test_unary_of(op, in.dtype) : unary_function(op, in.dtype);
    if (block == nullptr) return kKernelUnsupportedDtype;
    const bool is_bf16 = in.dtype == DType::bf16;
    const std::uint16_t* table = is_bf16 ? table_of_values(op, out.numel()) : nullptr;
    if (table != nullptr) {
        run_elementwise(look_up_values, table, out, in);
    } else {
        run_elementwise(block, nullptr, out, in);
    }
    return kKernelOk;
}

// Derivatives simplest in the output y.
bool derivative_uses_output(UnaryOp op) {
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

// Operands: grad_in; the input x or output y; grad_out g.
template <class T>
BlockFunction derivative(UnaryOp op) {
    switch (op) {
        case UnaryOp::negative: return binary_block<T>([](auto, auto g) { return -g; });
        case UnaryOp::absolute: return binary_block<T>([](auto x, auto g) { return g * sign(x); });
        case UnaryOp::exp: return binary_block<T>([](auto y, auto g) { return g * y; });
        case UnaryOp::log: return binary_block<T>([](auto x, auto g) { return g / x; });
        case UnaryOp::log1p:
            return binary_block<T>(
                [](auto x, auto g) { return g / (x + ElementOf<decltype(x)>(1)); });
        // Not y + 1, which loses all digits where y nears -1.
        case UnaryOp::expm1: return binary_block<T>([](auto x, auto g) { return g * exp(x); });
        case UnaryOp::sqrt: return binary_block<T>([](auto y, auto g) { return g / (y + y); });
        case UnaryOp::rsqrt:
            return binary_block<T>(
                [](auto y, auto g) { return g * (ElementOf<decltype(y)>(-0.5) * y * y * y); });
        case UnaryOp::reciprocal:
            return binary_block<T>([](auto y, auto g) { return -g * (y * y); });
        case UnaryOp::square: return binary_block<T>([](auto x, auto g) { return g * (x + x); });
        case UnaryOp::sin: return binary_block<T>([](auto x, auto g) { return g * cos(x); });
        case UnaryOp::cos: return binary_block<T>([](auto x, auto g) { return -g * sin(x); });
        case UnaryOp::tanh:
            return binary_block<T>([](auto y, auto g) {
                using A = ElementOf<decltype(y)>;
                return g * ((A(1) - y) * (A(1) + y));
            });
        case UnaryOp::erf:
            return binary_block<T>([](auto x, auto g) {
                using A = ElementOf<decltype(x)>;
                return g * (A(1.12837916709551257390) * exp(-x * x));  // 2 / sqrt(pi)
            });
        case UnaryOp::sigmoid:
            return binary_block<T>(
                [](auto y, auto g) { return g * (y * (ElementOf<decltype(y)>(1) - y)); });
        case UnaryOp::relu:
            return binary_block<T>([](auto y, auto g) {
                using A = ElementOf<decltype(y)>;
                return y <= A(0) ? Vec<A>{} : g;
            });
        case UnaryOp::silu:
            return binary_block<T>(
                [](auto x, auto g) { return g * silu_derivative<ElementOf<decltype(x)>>(x); });
        case UnaryOp::softplus:
            return binary_block<T>([](auto x, auto g) { return g * sigmoid(x); });
        case UnaryOp::gelu:
            return binary_block<T>(
                [](auto x, auto g) { return g * gelu_derivative<ElementOf<decltype(x)>>(x); });
        case UnaryOp::gelu_tanh:
            return binary_block<T>(
                [](auto x, auto g) { return g * gelu_tanh_derivative<ElementOf<decltype(x)>>(x); });
        // Constant almost everywhere.
        case UnaryOp::sign:
        case UnaryOp::floor:
        case UnaryOp::ceil:
        case UnaryOp::round:
            return binary_block<T>([](auto x, auto) { return Vec<ElementOf<decltype(x)>>{}; });
        default: return nullptr;
    }
}

}  // namespace

BlockFunction derivative_function(UnaryOp op, DType dtype) {
    switch (dtype) {
        case DType::f32: return derivative<float>(op);
        case DType::bf16: return derivative<bfloat16>(op);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return derivative<double>(op);
#endif
        default: return nullptr;
    }
}

namespace {

// The operand that the derivative is not written in may be absent.
KernelStatus unary_backward(const KernelContext&, UnaryOp op, const TensorView& in,
                            const TensorView& out, const TensorView& grad_out,
                            const TensorView& grad_in) {
    const BlockFunction block = derivative_function(op, grad_in.dtype);
    if (block == nullptr) return kKernelUnsupportedDtype;
    const TensorView& saved = derivative_uses_output(op) ? out : in;
    if (!saved.present()) return kKernelFailed;
    if (saved.dtype != grad_in.dtype || grad_out.dtype != grad_in.dtype) {
        return kKernelUnsupportedDtype;
    }
    const bool is_bf16 = grad_in.dtype == DType::bf16;
    const float* table = is_bf16 ? table_of_derivatives(op, grad_in.numel()) : nullptr;
    if (table != nullptr) {
        run_elementwise(multiply_derivatives, table, grad_in, saved, grad_out);
    } else {
        run_elementwise(block, nullptr, grad_in, saved, grad_out);
    }
    return kKernelOk;
}

}  // namespace

void register_elementwise_unary(KernelTable& table) {
    table.unary = unary;
    table.unary_backward = unary_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
