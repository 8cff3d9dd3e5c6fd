// One vector type for every instruction set, on the compiler's vector extensions: operators, select
// (mask ? a : b) and conversions come from the compiler. Included only by files under cpu/, which
// are compiled once per ISA, so everything here lives in that ISA's namespace.
//
//   Vec<float>   kLanes<float> floats:  4 baseline, 8 AVX2, 16 AVX-512
//   Vec<double>  half as many doubles
//   load<A>(p), load_partial<A>(p, n), store(p, v), store_partial(p, v, n)   A = arithmetic type
//       with p pointing at float, bfloat16 or double: conversion happens here, rounding once.
//       A = double also loads floats.
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
typedef float HalfVecFloat __attribute__((vector_size(kVectorBytes / 2)));

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

// Zero-extended; by the intrinsic, since GCC 12 takes the conversion of half a vector apart into
// five instructions, and by its zero-masked form, since GCC warns of an uninitialised operand in
// the plain one.
inline VecUint32 widen(HalfVecUint16 raw) {
#if defined(__AVX512F__)
    return vec_cast<VecUint32>(_mm512_maskz_cvtepu16_epi32(0xFFFF, vec_cast<__m256i>(raw)));
#elif defined(__AVX2__)
    return vec_cast<VecUint32>(_mm256_cvtepu16_epi32(vec_cast<__m128i>(raw)));
#else
    return __builtin_convertvector(raw, VecUint32);
#endif
}
inline VecFloat from_bfloat16_bits(HalfVecUint16 raw) {
    return vec_cast<VecFloat>(widen(raw) << 16);
}

template <class A, class T>
inline Vec<A> load(const T* p) {
    if constexpr (__is_same(T, bfloat16)) {
        static_assert(__is_same(A, float));
        HalfVecUint16 raw;
        std::memcpy(&raw, p, sizeof(raw));
        return from_bfloat16_bits(raw);
    } else if constexpr (__is_same(A, double) && __is_same(T, float)) {
        HalfVecFloat raw;
        std::memcpy(&raw, p, sizeof(raw));
        return __builtin_convertvector(raw, VecDouble);
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

#if defined(__AVX512F__)
// The zero-masked forms with this mask compile to the plain instructions; GCC's own plain forms
// warn of an uninitialised pass-through operand.
inline constexpr __mmask16 kAllLanesMask = 0xFFFF;
inline __mmask16 first_lanes_mask(std::int64_t n) {
    return static_cast<__mmask16>((1U << static_cast<unsigned>(n)) - 1U);
}
#elif defined(__AVX2__)
inline __m256i first_lanes_mask(std::int64_t n) {
    const VecInt32 lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return vec_cast<__m256i>(lane < static_cast<std::int32_t>(n));
}
#endif

// The first n lanes (0 <= n <= lanes); the others read as `fill`.
template <class A, class T>
inline Vec<A> load_partial(const T* p, std::int64_t n, A fill = A(0)) {
#if defined(__AVX512F__)
    if constexpr (__is_same(T, float) && __is_same(A, float)) {
        return vec_cast<VecFloat>(
            _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes_mask(n), p));
    }
    if constexpr (__is_same(T, bfloat16)) {
        const __mmask16 mask = first_lanes_mask(n);
        const __m512i wide = _mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, p));
        return vec_cast<VecFloat>(
            _mm512_mask_slli_epi32(_mm512_castps_si512(_mm512_set1_ps(fill)), mask, wide, 16));
    }
#elif defined(__AVX2__)
    if constexpr (__is_same(T, float) && __is_same(A, float)) {
        const __m256i mask = first_lanes_mask(n);
        return vec_cast<VecFloat>(_mm256_blendv_ps(
            _mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)));
    }
#endif
    T lanes[kLanes<A>] = {};
    std::memcpy(lanes, p, static_cast<std::size_t>(n) * sizeof(T));
    const Vec<A> v = load<A>(lanes);
    if (fill == A(0)) return v;
    A filled[kLanes<A>];
    store<A>(filled, v);
    for (std::int64_t i = n; i < kLanes<A>; ++i) filled[i] = fill;
    return load<A>(filled);
}

template <class A, class T>
inline void store_partial(T* p, const Vec<A>& v, std::int64_t n) {
#if defined(__AVX512F__)
    if constexpr (__is_same(T, float)) {
        _mm512_mask_storeu_ps(p, first_lanes_mask(n), vec_cast<__m512>(v));
        return;
    }
    if constexpr (__is_same(T, bfloat16)) {
        _mm256_mask_storeu_epi16(p, first_lanes_mask(n), vec_cast<__m256i>(to_bfloat16_bits(v)));
        return;
    }
#elif defined(__AVX2__)
    if constexpr (__is_same(T, float)) {
        _mm256_maskstore_ps(p, first_lanes_mask(n), vec_cast<__m256>(v));
        return;
    }
#endif
    T lanes[kLanes<A>];
    store<A>(lanes, v);
    std::memcpy(p, lanes, static_cast<std::size_t>(n) * sizeof(T));
}

// b where a is NaN, and b where b is NaN: what the instruction does.
template <class A>
inline Vec<A> maximum(Vec<A> a, Vec<A> b) {
#if defined(__AVX512F__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(
            _mm512_maskz_max_ps(kAllLanesMask, vec_cast<__m512>(a), vec_cast<__m512>(b)));
    }
#elif defined(__AVX2__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(_mm256_max_ps(vec_cast<__m256>(a), vec_cast<__m256>(b)));
    }
#endif
    return a > b ? a : b;
}
template <class A>
inline Vec<A> minimum(Vec<A> a, Vec<A> b) {
#if defined(__AVX512F__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(
            _mm512_maskz_min_ps(kAllLanesMask, vec_cast<__m512>(a), vec_cast<__m512>(b)));
    }
#elif defined(__AVX2__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(_mm256_min_ps(vec_cast<__m256>(a), vec_cast<__m256>(b)));
    }
#endif
    return a < b ? a : b;
}

// Horizontal reductions in a fixed tree: lane i is combined with lane i + width / 2, and so on.
template <class A, class Combine>
inline A reduce_lanes(Vec<A> v, const Combine& combine) {
#if defined(__AVX2__)
    if constexpr (__is_same(A, float)) {
        typedef float Vec8 __attribute__((vector_size(32)));
        typedef float Vec4 __attribute__((vector_size(16)));
        Vec8 eight;
        if constexpr (kLanes<A> == 16) {
            Vec8 halves[2];
            std::memcpy(halves, &v, sizeof(v));
            eight = combine(halves[0], halves[1]);
        } else {
            std::memcpy(&eight, &v, sizeof(eight));
        }
        Vec4 quarters[2];
        std::memcpy(quarters, &eight, sizeof(eight));
        Vec4 four = combine(quarters[0], quarters[1]);
        const __m128 raw = vec_cast<__m128>(four);
        four = combine(four, vec_cast<Vec4>(_mm_movehl_ps(raw, raw)));
        return combine(four, vec_cast<Vec4>(_mm_movehdup_ps(vec_cast<__m128>(four))))[0];
    }
#endif
    A lanes[kLanes<A>];
    std::memcpy(lanes, &v, sizeof(v));
    for (int width = kLanes<A> / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) lanes[i] = combine(lanes[i], lanes[i + width]);
    }
    return lanes[0];
}
template <class A>
inline A reduce_add(Vec<A> v) {
    return reduce_lanes<A>(v, [](auto a, auto b) { return a + b; });
}
template <class A>
inline A reduce_max(Vec<A> v) {
    return reduce_lanes<A>(v, [](auto a, auto b) { return a > b ? a : b; });
}

template <class A>
inline Vec<A> square_root(Vec<A> v) {
#if defined(__AVX512F__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(_mm512_maskz_sqrt_ps(kAllLanesMask, vec_cast<__m512>(v)));
    }
#elif defined(__AVX2__)
    if constexpr (__is_same(A, float)) {
        return vec_cast<VecFloat>(_mm256_sqrt_ps(vec_cast<__m256>(v)));
    }
#endif
    A lanes[kLanes<A>];
    std::memcpy(lanes, &v, sizeof(v));
    for (A& lane : lanes) {
        if constexpr (__is_same(A, float)) {
            lane = __builtin_sqrtf(lane);
        } else {
            lane = __builtin_sqrt(lane);
        }
    }
    std::memcpy(&v, lanes, sizeof(v));
    return v;
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
