// Turns a function on vectors into a BlockFunction over contiguous runs: load (to the arithmetic
// type), apply, round once at the store. The tail takes the same code as full vectors, through a
// padded load, so a function is instantiated once. Functions must be captureless lambdas; those
// that need parameters take the context as their last argument.
#pragma once

#include "kernels/strided_loop.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

// float or double of a vector type.
template <class V>
struct ElementOfVec;
template <>
struct ElementOfVec<VecFloat> {
    using type = float;
};
template <>
struct ElementOfVec<VecDouble> {
    using type = double;
};
template <class V>
using ElementOf = typename ElementOfVec<V>::type;

template <class A, class T>
inline Vec<A> load_up_to(const T* p, std::int64_t n) {
    return n >= kLanes<A> ? load<A>(p) : load_partial<A>(p, n);
}
template <class A, class T>
inline void store_up_to(T* p, const Vec<A>& v, std::int64_t n) {
    if (n >= kLanes<A>) {
        store<A>(p, v);
    } else {
        store_partial<A>(p, v, n);
    }
}

// out = f(in)
template <class T, class Function>
BlockFunction unary_block(Function /*captureless*/) {
    return [](const void*, char* const* operands, std::int64_t n) {
        using A = Arithmetic<T>;
        T* out = reinterpret_cast<T*>(operands[0]);
        const T* in = reinterpret_cast<const T*>(operands[1]);
        for (std::int64_t i = 0; i < n; i += kLanes<A>) {
            store_up_to<A>(out + i, Function{}(load_up_to<A>(in + i, n - i)), n - i);
        }
    };
}

// out = f(a, b)
template <class T, class Function>
BlockFunction binary_block(Function /*captureless*/) {
    return [](const void*, char* const* operands, std::int64_t n) {
        using A = Arithmetic<T>;
        T* out = reinterpret_cast<T*>(operands[0]);
        const T* a = reinterpret_cast<const T*>(operands[1]);
        const T* b = reinterpret_cast<const T*>(operands[2]);
        for (std::int64_t i = 0; i < n; i += kLanes<A>) {
            const Vec<A> x = load_up_to<A>(a + i, n - i);
            const Vec<A> y = load_up_to<A>(b + i, n - i);
            store_up_to<A>(out + i, Function{}(x, y), n - i);
        }
    };
}

// out = f(a) or f(a, b) element by element, for integers, truth values and mixed types; the
// compiler vectorises these. Floating elements arrive in their arithmetic type.
template <class In, class Out, class Function>
BlockFunction unary_scalar_block(Function /*captureless*/) {
    return [](const void*, char* const* operands, std::int64_t n) {
        Out* out = reinterpret_cast<Out*>(operands[0]);
        const In* in = reinterpret_cast<const In*>(operands[1]);
        for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(Function{}(in[i]));
    };
}
template <class In, class Out, class Function>
BlockFunction binary_scalar_block(Function /*captureless*/) {
    return [](const void*, char* const* operands, std::int64_t n) {
        Out* out = reinterpret_cast<Out*>(operands[0]);
        const In* a = reinterpret_cast<const In*>(operands[1]);
        const In* b = reinterpret_cast<const In*>(operands[2]);
        for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(Function{}(a[i], b[i]));
    };
}

}  // namespace tempra::cpu::TEMPRA_ISA
