// out = f(a, b), where(condition, a, b) and clamp.
//
// Bytes moved: each operand once. Mapping: fixed chunks of elements over threads, whole vectors
// within (strided_loop.h, block_map.h). Arithmetic in fp32 (f64 for f64), rounded once at the
// store; integers wrap. Deterministic: every element is computed alone.
#include "kernels/block_map.h"
#include "kernels/compute_dtype.h"
#include "kernels/register.h"
#include "simd/float16_convert.h"
#include "simd/vec_power.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

// NaN wins, from either side.
template <class V>
inline V maximum_or_nan(V a, V b) {
    return ((a > b) | (a != a)) ? a : b;
}
template <class V>
inline V minimum_or_nan(V a, V b) {
    return ((a < b) | (a != a)) ? a : b;
}

template <class T>
BlockFunction arithmetic_binary(BinaryOp op) {
    switch (op) {
        case BinaryOp::add: return binary_block<T>([](auto a, auto b) { return a + b; });
        case BinaryOp::subtract: return binary_block<T>([](auto a, auto b) { return a - b; });
        case BinaryOp::multiply: return binary_block<T>([](auto a, auto b) { return a * b; });
        case BinaryOp::divide: return binary_block<T>([](auto a, auto b) { return a / b; });
        case BinaryOp::power: return binary_block<T>([](auto a, auto b) { return pow(a, b); });
        case BinaryOp::maximum:
            return binary_block<T>([](auto a, auto b) { return maximum_or_nan(a, b); });
        case BinaryOp::minimum:
            return binary_block<T>([](auto a, auto b) { return minimum_or_nan(a, b); });
        default: return nullptr;
    }
}

#if defined(TEMPRA_ISA_IS_baseline)
// The context of integer loops: set where a result does not exist.
using FailureFlag = int;

template <class T, class Unsigned, class Function>
BlockFunction integer_block(Function /*captureless*/) {
    return binary_scalar_block<T, T>([](T a, T b) {
        return static_cast<T>(Function{}(static_cast<Unsigned>(a), static_cast<Unsigned>(b)));
    });
}

// Rounds toward zero; division by zero fails.
template <class T, class Unsigned>
void divide_integers(const void* context, char* const* operands, std::int64_t n) {
    T* out = reinterpret_cast<T*>(operands[0]);
    const T* a = reinterpret_cast<const T*>(operands[1]);
    const T* b = reinterpret_cast<const T*>(operands[2]);
    for (std::int64_t i = 0; i < n; ++i) {
        const T divisor = b[i], dividend = a[i];
        if (divisor == 0) {
            __atomic_store_n(static_cast<FailureFlag*>(const_cast<void*>(context)), 1,
                             __ATOMIC_RELAXED);
            out[i] = 0;
        } else if (divisor == -1) {  // the most negative number wraps instead of trapping
            out[i] = static_cast<T>(Unsigned{0} - static_cast<Unsigned>(dividend));
        } else {
            out[i] = dividend / divisor;
        }
    }
}

// By repeated squaring; a negative exponent fails unless the base is 1 or -1.
template <class T, class Unsigned>
void raise_integers(const void* context, char* const* operands, std::int64_t n) {
    T* out = reinterpret_cast<T*>(operands[0]);
    const T* a = reinterpret_cast<const T*>(operands[1]);
    const T* b = reinterpret_cast<const T*>(operands[2]);
    for (std::int64_t i = 0; i < n; ++i) {
        const T base = a[i], exponent = b[i];
        if (exponent < 0 && base != 1 && base != -1) {
            __atomic_store_n(static_cast<FailureFlag*>(const_cast<void*>(context)), 1,
                             __ATOMIC_RELAXED);
            out[i] = 0;
            continue;
        }
        Unsigned result = 1, factor = static_cast<Unsigned>(base);
        Unsigned rest =
            exponent < 0 ? static_cast<Unsigned>(exponent & 1) : static_cast<Unsigned>(exponent);
        for (; rest != 0; rest >>= 1, factor *= factor) {
            if ((rest & 1) != 0) result *= factor;
        }
        out[i] = static_cast<T>(result);
    }
}

template <class T, class Unsigned>
BlockFunction integer_binary(BinaryOp op) {
    using U = Unsigned;
    switch (op) {
        case BinaryOp::add: return integer_block<T, U>([](U a, U b) { return a + b; });
        case BinaryOp::subtract: return integer_block<T, U>([](U a, U b) { return a - b; });
        case BinaryOp::multiply: return integer_block<T, U>([](U a, U b) { return a * b; });
        case BinaryOp::divide: return divide_integers<T, U>;
        case BinaryOp::power: return raise_integers<T, U>;
        case BinaryOp::maximum:
            return binary_scalar_block<T, T>([](T a, T b) { return a > b ? a : b; });
        case BinaryOp::minimum:
            return binary_scalar_block<T, T>([](T a, T b) { return a < b ? a : b; });
        default: return nullptr;
    }
}
#endif

BlockFunction arithmetic_of(BinaryOp op, DType dtype) {
    switch (dtype) {
        case DType::f32: return arithmetic_binary<float>(op);
        case DType::bf16: return arithmetic_binary<bfloat16>(op);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return arithmetic_binary<double>(op);
        case DType::i64: return integer_binary<std::int64_t, std::uint64_t>(op);
        case DType::i32: return integer_binary<std::int32_t, std::uint32_t>(op);
#endif
        default: return nullptr;
    }
}

template <class T>
inline auto comparable(T x) {
    if constexpr (__is_same(T, bfloat16)) {
        return to_arithmetic(x);
    } else if constexpr (__is_same(T, float16)) {
        return float16_to_float(x);
    } else {
        return x;
    }
}

template <class T>
BlockFunction comparison(BinaryOp op) {
    using B = std::uint8_t;
    switch (op) {
        case BinaryOp::equal:
            return binary_scalar_block<T, B>(
                [](T a, T b) { return comparable(a) == comparable(b); });
        case BinaryOp::not_equal:
            return binary_scalar_block<T, B>(
                [](T a, T b) { return comparable(a) != comparable(b); });
        case BinaryOp::less:
        case BinaryOp::greater:  // with the operands exchanged
            return binary_scalar_block<T, B>(
                [](T a, T b) { return comparable(a) < comparable(b); });
        case BinaryOp::less_equal:
        case BinaryOp::greater_equal:
            return binary_scalar_block<T, B>(
                [](T a, T b) { return comparable(a) <= comparable(b); });
        default: return nullptr;
    }
}

BlockFunction comparison_of(BinaryOp op, DType dtype) {
    switch (dtype) {
        case DType::f32: return comparison<float>(op);
        case DType::bf16: return comparison<bfloat16>(op);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return comparison<double>(op);
        case DType::f16: return comparison<float16>(op);
        case DType::i64: return comparison<std::int64_t>(op);
        case DType::i32: return comparison<std::int32_t>(op);
        case DType::u32: return comparison<std::uint32_t>(op);
        case DType::u16: return comparison<std::uint16_t>(op);
        case DType::u8:
        case DType::boolean: return comparison<std::uint8_t>(op);
#endif
        default: return nullptr;
    }
}

BlockFunction logical(BinaryOp op) {
    using B = std::uint8_t;
    switch (op) {
        case BinaryOp::logical_and:
            return binary_scalar_block<B, B>([](B a, B b) { return (a != 0) & (b != 0); });
        case BinaryOp::logical_or:
            return binary_scalar_block<B, B>([](B a, B b) { return (a | b) != 0; });
        case BinaryOp::logical_xor:
            return binary_scalar_block<B, B>([](B a, B b) { return (a != 0) != (b != 0); });
        default: return nullptr;
    }
}

KernelStatus binary(const KernelContext&, BinaryOp op, const TensorView& a, const TensorView& b,
                    const TensorView& out) {
    if (a.dtype != b.dtype) return kKernelUnsupportedDtype;
    const bool is_comparison = op >= BinaryOp::equal && op <= BinaryOp::greater_equal;
    const bool is_logical = op >= BinaryOp::logical_and && op <= BinaryOp::logical_xor;
    if (out.dtype != (is_comparison || is_logical ? DType::boolean : a.dtype) ||
        (is_logical && a.dtype != DType::boolean)) {
        return kKernelUnsupportedDtype;
    }
    const BlockFunction block = is_comparison ? comparison_of(op, a.dtype)
                                : is_logical  ? logical(op)
                                              : arithmetic_of(op, a.dtype);
    if (block == nullptr) return kKernelUnsupportedDtype;
    const bool exchanged = op == BinaryOp::greater || op == BinaryOp::greater_equal;
    int failed = 0;
    run_elementwise(block, &failed, out, exchanged ? b : a, exchanged ? a : b);
    return failed == 0 ? kKernelOk : kKernelFailed;
}

// Element types only matter by their size. Operands: out, condition, a, b.
template <class Bits>
void select_block(const void*, char* const* operands, std::int64_t n) {
    typedef Bits __attribute__((may_alias)) Element;
    Element* out = reinterpret_cast<Element*>(operands[0]);
    const std::uint8_t* condition = reinterpret_cast<const std::uint8_t*>(operands[1]);
    const Element* a = reinterpret_cast<const Element*>(operands[2]);
    const Element* b = reinterpret_cast<const Element*>(operands[3]);
    for (std::int64_t i = 0; i < n; ++i) {
        const Bits x = a[i], y = b[i];
        out[i] = condition[i] != 0 ? x : y;
    }
}

KernelStatus where(const KernelContext&, const TensorView& condition, const TensorView& a,
                   const TensorView& b, const TensorView& out) {
    if (condition.dtype != DType::boolean || a.dtype != out.dtype || b.dtype != out.dtype) {
        return kKernelUnsupportedDtype;
    }
    BlockFunction block = nullptr;
    switch (size_of(out.dtype)) {
        case 1: block = select_block<std::uint8_t>; break;
        case 2: block = select_block<std::uint16_t>; break;
        case 4: block = select_block<std::uint32_t>; break;
        default: block = select_block<std::uint64_t>; break;
    }
    run_elementwise(block, nullptr, out, condition, a, b);
    return kKernelOk;
}

template <class A>
struct Bounds {
    A low, high;
};

// NaN stays NaN; where low > high the result is high.
template <class T>
void clamp_block(const void* context, char* const* operands, std::int64_t n) {
    using A = Arithmetic<T>;
    const Bounds<A>& bounds = *static_cast<const Bounds<A>*>(context);
    const Vec<A> low = broadcast<A>(bounds.low), high = broadcast<A>(bounds.high);
    T* out = reinterpret_cast<T*>(operands[0]);
    const T* in = reinterpret_cast<const T*>(operands[1]);
    for (std::int64_t i = 0; i < n; i += kLanes<A>) {
        const Vec<A> x = load_up_to<A>(in + i, n - i);
        const Vec<A> above = x < low ? low : x;
        store_up_to<A>(out + i, above > high ? high : above, n - i);
    }
}

#if defined(TEMPRA_ISA_IS_baseline)
template <class T>
void clamp_integers(const void* context, char* const* operands, std::int64_t n) {
    const Bounds<std::int64_t>& bounds = *static_cast<const Bounds<std::int64_t>*>(context);
    T* out = reinterpret_cast<T*>(operands[0]);
    const T* in = reinterpret_cast<const T*>(operands[1]);
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t above = in[i] < bounds.low ? bounds.low : in[i];
        out[i] = static_cast<T>(above > bounds.high ? bounds.high : above);
    }
}

std::int64_t to_integer_bound(double bound, std::int64_t smallest, std::int64_t largest,
                              bool round_up) {
    if (!(bound > static_cast<double>(smallest))) return smallest;
    if (bound >= static_cast<double>(largest)) return largest;
    const std::int64_t truncated = static_cast<std::int64_t>(bound);
    const double back = static_cast<double>(truncated);
    if (round_up) return back < bound ? truncated + 1 : truncated;
    return back > bound ? truncated - 1 : truncated;
}
#endif

KernelStatus clamp(const KernelContext&, const TensorView& in, double low, double high,
                   const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
#if defined(TEMPRA_ISA_IS_baseline)
    if (in.dtype == DType::i64 || in.dtype == DType::i32) {
        const bool wide = in.dtype == DType::i64;
        const std::int64_t smallest = wide ? INT64_MIN : INT32_MIN;
        const std::int64_t largest = wide ? INT64_MAX : INT32_MAX;
        const Bounds<std::int64_t> bounds = {to_integer_bound(low, smallest, largest, true),
                                             to_integer_bound(high, smallest, largest, false)};
        run_elementwise(wide ? clamp_integers<std::int64_t> : clamp_integers<std::int32_t>, &bounds,
                        out, in);
        return kKernelOk;
    }
#endif
    return with_compute_dtype(in.dtype, [&](auto tag) -> KernelStatus {
        using T = typename decltype(tag)::type;
        using A = Arithmetic<T>;
        const Bounds<A> bounds = {static_cast<A>(low), static_cast<A>(high)};
        run_elementwise(clamp_block<T>, &bounds, out, in);
        return kKernelOk;
    });
}

}  // namespace

void register_elementwise_binary(KernelTable& table) {
    table.binary = binary;
    table.where = where;
    table.clamp = clamp;
}

}  // namespace tempra::cpu::TEMPRA_ISA
