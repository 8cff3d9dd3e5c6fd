// One vector type for every instruction set, on the compiler's vector extensions: operators, select
// (mask ? a : b) and conversions come from the compiler. Included only by files under cpu/, which are
// compiled once per ISA, so everything here lives in that ISA's namespace.
//
//   Vec<float>   kLanes<float> floats:  4 baseline, 8 AVX2, 16 AVX-512
//   Vec<double>  half as many doubles
//   load<A>(p), load_partial<A>(p, n), store(p, v), store_partial(p, v, n)   A = arithmetic type
//       with p pointing at float, bfloat16 or double: conversion happens here, rounding once.
#pragma once

#include <cstdint>
#include <cstring>

#include "tempra/dtype.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef TEMPRA_ISA
#error "files under cpu/ are compiled with -DTEMPRA_ISA=<namespace>"
#endif

namespace tempra::cpu::TEMPRA_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// Arithmetic type of a storage type: float for float and bfloat16, double for double.
template <class T>
struct ArithmeticOf {
    using type = T;
};
template <>
struct ArithmeticOf<bfloat16> {
    using type = float;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;

typedef float VecFloat __attribute__((vector_size(kVectorBytes)));
typedef double VecDouble __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t VecInt32 __attribute__((vector_size(kVectorBytes)));
typedef std::uint32_t VecUint32 __attribute__((vector_size(kVectorBytes)));
typedef std::int64_t VecInt64 __attribute__((vector_size(kVectorBytes)));
typedef std::uint16_t HalfVecUint16 __attribute__((vector_size(kVectorBytes / 2)));

template <class A>
struct VecOf;
template <>
struct VecOf<float> {
    using type = VecFloat;
    using integer = VecInt32;
};
template <>
struct VecOf<double> {
    using type = VecDouble;
    using integer = VecInt64;
};
template <class A>
using Vec = typename VecOf<A>::type;
template <class A>
using VecInteger = typename VecOf<A>::integer;

template <class A>
inline Vec<A> broadcast(A value) {
    return value - Vec<A>{};  // the compiler's splat; exact for every value, -0.0 included
}

template <class To, class From>
inline To vec_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

template <class A, class T>
inline Vec<A> load(const T* p) {
    if constexpr (__is_same(T, bfloat16)) {
        static_assert(__is_same(A, float));
        HalfVecUint16 raw;
        std::memcpy(&raw, p, sizeof(raw));
        return vec_cast<VecFloat>(__builtin_convertvector(raw, VecUint32) << 16);
    } else {
        static_assert(__is_same(A, T));
        Vec<A> v;
        std::memcpy(&v, p, sizeof(v));
        return v;
    }
}

inline HalfVecUint16 to_bfloat16_bits(VecFloat v) {
#if defined(__AVX512BF16__)
    const __m256bh packed = _mm512_cvtneps_pbh(vec_cast<__m512>(v));
    return vec_cast<HalfVecUint16>(packed);
#else
    const VecUint32 raw = vec_cast<VecUint32>(v);
    const VecUint32 rounded = (raw + 0x7FFFU + ((raw >> 16) & 1U)) >> 16;
    const VecUint32 quiet_nan = (raw >> 16) | 0x40U;
    return __builtin_convertvector((raw & 0x7FFFFFFFU) > 0x7F800000U ? quiet_nan : rounded,
                                   HalfVecUint16);
#endif
}

template <class A, class T>
inline void store(T* p, const Vec<A>& v) {
    if constexpr (__is_same(T, bfloat16)) {
        const HalfVecUint16 raw = to_bfloat16_bits(v);
        std::memcpy(p, &raw, sizeof(raw));
    } else {
        static_assert(__is_same(A, T));
        std::memcpy(p, &v, sizeof(v));
    }
}

// The first n lanes (0 <= n <= lanes); the others read as `fill`.
template <class A, class T>
inline Vec<A> load_partial(const T* p, std::int64_t n, A fill = A(0)) {
    T lanes[kLanes<A>];
    Vec<A> v = broadcast<A>(fill);
    store<A>(lanes, v);
    std::memcpy(lanes, p, static_cast<std::size_t>(n) * sizeof(T));
    return load<A>(lanes);
}

template <class A, class T>
inline void store_partial(T* p, const Vec<A>& v, std::int64_t n) {
    T lanes[kLanes<A>];
    store<A>(lanes, v);
    std::memcpy(p, lanes, static_cast<std::size_t>(n) * sizeof(T));
}

// Horizontal reductions in a fixed tree.
template <class A>
inline A reduce_add(Vec<A> v) {
    A lanes[kLanes<A>];
    std::memcpy(lanes, &v, sizeof(v));
    for (int width = kLanes<A> / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    return lanes[0];
}
template <class A>
inline A reduce_max(Vec<A> v) {
    A lanes[kLanes<A>];
    std::memcpy(lanes, &v, sizeof(v));
    A best = lanes[0];
    for (int i = 1; i < kLanes<A>; ++i) best = lanes[i] > best ? lanes[i] : best;
    return best;
}

template <class A>
inline Vec<A> maximum(Vec<A> a, Vec<A> b) {
    return a > b ? a : b;
}
template <class A>
inline Vec<A> minimum(Vec<A> a, Vec<A> b) {
    return a < b ? a : b;
}

inline float to_arithmetic(bfloat16 v) { return v.to_float(); }
inline float to_arithmetic(float v) { return v; }
inline double to_arithmetic(double v) { return v; }

template <class T>
inline T from_arithmetic(Arithmetic<T> v) {
    if constexpr (__is_same(T, bfloat16)) {
        return bfloat16::from_float(v);
    } else {
        return v;
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
