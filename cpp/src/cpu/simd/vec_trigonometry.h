// sin and cos on Vec<float> within 2 units in the last place: x is reduced by multiples of pi/2 in
// double precision (exact to |x| <= 10^6; beyond, lanes go through the C library), then a
// polynomial of our own minimax fit is taken on [-pi/4, pi/4].
#pragma once

#include "simd/vec_math.h"

namespace tempra::cpu::TEMPRA_ISA {

// A Vec<float> as two Vec<double>.
struct WideVec {
    VecDouble low, high;
};
inline WideVec widen(VecFloat x) {
    HalfVecFloat halves[2];
    std::memcpy(halves, &x, sizeof(x));
    return {__builtin_convertvector(halves[0], VecDouble),
            __builtin_convertvector(halves[1], VecDouble)};
}
inline VecFloat narrow(VecDouble low, VecDouble high) {
    const HalfVecFloat halves[2] = {__builtin_convertvector(low, HalfVecFloat),
                                    __builtin_convertvector(high, HalfVecFloat)};
    VecFloat x;
    std::memcpy(&x, halves, sizeof(x));
    return x;
}

namespace trigonometry_detail {

inline constexpr float kLargestReduced = 1e6F;

// x - n * pi/2 with pi/2 in two parts; n * the first (33 bits) is exact. x becomes the remainder.
inline VecDouble reduce(VecDouble& x) {
    const VecDouble magic = broadcast<double>(0x1.8p52);
    const VecDouble n = (x * 0.63661977236758134308 + magic) - magic;
    x = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
    return n;
}

struct SinCos {
    VecFloat sine, cosine;
};
// For |r| <= pi/4.
[[gnu::always_inline]] inline SinCos polynomials(VecFloat r) {
    const VecFloat z = r * r;
    VecFloat s = broadcast<float>(2.71831163e-06F);
    s = s * z + -0.000198393347F;
    s = s * z + 0.00833332911F;
    s = s * z + -0.166666672F;
    VecFloat c = broadcast<float>(-2.72102369e-07F);
    c = c * z + 2.47995195e-05F;
    c = c * z + -0.00138888834F;
    c = c * z + 0.0416666679F;
    return {r + r * (z * s), 1.0F + (z * z * c - 0.5F * z)};
}

// sin(r + quadrant * pi/2)
inline VecFloat turn(const SinCos& value, VecInt32 quadrant) {
    const VecFloat y = (quadrant & 1) != 0 ? value.cosine : value.sine;
    return (quadrant & 2) != 0 ? -y : y;
}

template <class Scalar>
inline VecFloat replace_large(VecFloat x, VecFloat y, const Scalar& scalar) {
    const VecInt32 large = absolute(x) > kLargestReduced;
    std::int32_t any = 0;
    for (int i = 0; i < kLanes<float>; ++i) any |= large[i];
    if (any == 0) return y;
    for (int i = 0; i < kLanes<float>; ++i) {
        if (large[i] != 0) y[i] = static_cast<float>(scalar(static_cast<double>(x[i])));
    }
    return y;
}

inline VecFloat sine_of_quadrant(VecFloat x, int quadrant) {
    WideVec wide = widen(x);
    const VecDouble low = reduce(wide.low), high = reduce(wide.high);
    const VecFloat inside = absolute(x) <= kLargestReduced ? narrow(low, high) : VecFloat{};
    const VecInt32 n = __builtin_convertvector(inside, VecInt32) + quadrant;
    return turn(polynomials(narrow(wide.low, wide.high)), n);
}

}  // namespace trigonometry_detail

inline VecFloat sin(VecFloat x) {
    const VecFloat y = trigonometry_detail::sine_of_quadrant(x, 0);
    return trigonometry_detail::replace_large(x, x == 0.0F ? x : y,
                                              [](double v) { return std::sin(v); });
}
inline VecFloat cos(VecFloat x) {
    const VecFloat y = trigonometry_detail::sine_of_quadrant(x, 1);
    return trigonometry_detail::replace_large(x, y, [](double v) { return std::cos(v); });
}
inline VecDouble sin(VecDouble x) {
    return map_lanes(x, [](double v) { return std::sin(v); });
}
inline VecDouble cos(VecDouble x) {
    return map_lanes(x, [](double v) { return std::cos(v); });
}

// sin(2 pi u) and cos(2 pi u) for 0 <= u < 1: the reduction is exact in turns.
[[gnu::always_inline]] inline void sin_cos_turns(VecFloat u, VecFloat& sine, VecFloat& cosine) {
    const VecFloat quarters = u * 4.0F;
    const VecFloat n = round_to_nearest_small(quarters);
    const VecInt32 quadrant = __builtin_convertvector(n, VecInt32);
    const trigonometry_detail::SinCos value =
        trigonometry_detail::polynomials((quarters - n) * 1.57079632679F);
    sine = trigonometry_detail::turn(value, quadrant);
    cosine = trigonometry_detail::turn(value, quadrant + 1);
}

}  // namespace tempra::cpu::TEMPRA_ISA
