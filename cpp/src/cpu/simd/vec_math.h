// exp, log and friends on Vec<float>; Vec<double> goes through the C library lane by lane (gradient
// checks only). Branch-free, no tables; float results are within 2 units in the last place. NaN,
// infinities and subnormal numbers are treated as the C library does. Polynomials are our own
// minimax fits. sin, cos and pow: vec_trigonometry.h, vec_power.h.
#pragma once

#include <cmath>

#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

template <class Function>
inline VecDouble map_lanes(VecDouble x, const Function& function) {
    double lanes[kLanes<double>];
    std::memcpy(lanes, &x, sizeof(x));
    for (double& lane : lanes) lane = function(lane);
    std::memcpy(&x, lanes, sizeof(x));
    return x;
}

// Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits.
inline VecFloat round_to_nearest_small(VecFloat x) {
    const VecFloat magic = broadcast<float>(12582912.0F);
    return (x + magic) - magic;  // kept as written: nothing here is built with -ffast-math
}

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, degree-6 polynomial (minimax;
// coefficients from a Remez fit). Below -87.34, where the result would be subnormal, it is 0; above
// 88.73 infinity; NaN stays NaN, because minimum and maximum give their second operand then.
inline VecFloat exp(VecFloat x) {
    const VecFloat high = broadcast<float>(89.0F), low = broadcast<float>(-87.3365479F);
#if defined(__AVX512F__)
    const VecFloat clamped = minimum<float>(high, x);  // what is below `low` is masked at the end
#else
    const VecFloat clamped = minimum<float>(high, maximum<float>(low, x));
#endif
    const VecFloat n = round_to_nearest_small(clamped * 1.44269504F);
    VecFloat r = clamped - n * 0.693359375F;
    r = r - n * -2.12194440e-4F;
    VecFloat p = broadcast<float>(1.9875691500e-4F);
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * (r * r) + r + 1.0F;
#if defined(__AVX512F__)
    const __mmask16 not_below = _mm512_cmp_ps_mask(vec_cast<__m512>(x), vec_cast<__m512>(low),
                                                   _CMP_NLT_UQ);  // true for NaN
    return vec_cast<VecFloat>(
        _mm512_maskz_scalef_ps(not_below, vec_cast<__m512>(p), vec_cast<__m512>(n)));
#else
    // 2^n by two exponent halves, so that n = 128 overflows only where the result does.
    const VecInt32 whole = __builtin_convertvector(n, VecInt32);
    const VecInt32 half = whole >> 1;
    const VecFloat scale1 = vec_cast<VecFloat>((half + 127) << 23);
    const VecFloat scale2 = vec_cast<VecFloat>((whole - half + 127) << 23);
    return x < low ? VecFloat{} : p * scale1 * scale2;
#endif
}
inline VecDouble exp(VecDouble x) {
    return map_lanes(x, [](double v) { return std::exp(v); });
}

inline VecFloat absolute(VecFloat x) {
    return vec_cast<VecFloat>(vec_cast<VecInt32>(x) & 0x7FFFFFFF);
}
inline VecDouble absolute(VecDouble x) {
    return vec_cast<VecDouble>(vec_cast<VecInt64>(x) & 0x7FFFFFFFFFFFFFFFLL);
}
inline VecFloat copy_sign(VecFloat magnitude, VecFloat sign) {
    return vec_cast<VecFloat>((vec_cast<VecInt32>(magnitude) & 0x7FFFFFFF) |
                              (vec_cast<VecInt32>(sign) & static_cast<std::int32_t>(0x80000000U)));
}

namespace log_detail {

// x = 2^exponent * (1 + fraction), sqrt(1/2) <= 1 + fraction < sqrt(2); x positive and normal.
struct Reduced {
    VecFloat fraction, exponent;
};
[[gnu::always_inline]] inline Reduced reduce(VecFloat x) {
    // Unsigned, because negative x, which the caller masks, would overflow.
    const VecUint32 raw = vec_cast<VecUint32>(x);
    const VecInt32 exponent = vec_cast<VecInt32>(raw - 0x3F3504F3U) >> 23;
    return {vec_cast<VecFloat>(raw - (vec_cast<VecUint32>(exponent) << 23)) - 1.0F,
            __builtin_convertvector(exponent, VecFloat)};
}

// log(1 + f) = f - f^2/2 + f^3 P(f), relative error 3e-9; plus exponent * ln 2 in two parts.
[[gnu::always_inline]] inline VecFloat assemble(const Reduced& reduced) {
    const VecFloat f = reduced.fraction, square = f * f;
    VecFloat p = broadcast<float>(0.0674660131F);
    p = p * f + -0.116756409F;
    p = p * f + 0.118881747F;
    p = p * f + -0.124055915F;
    p = p * f + 0.142195508F;
    p = p * f + -0.166679963F;
    p = p * f + 0.200021192F;
    p = p * f + -0.250000089F;
    p = p * f + 0.333333135F;
    VecFloat tail = f * square * p + reduced.exponent * -2.12194440e-4F;
    tail = tail - 0.5F * square;
    return (f + tail) + reduced.exponent * 0.693359375F;
}

}  // namespace log_detail

[[gnu::always_inline]] inline VecFloat log(VecFloat x) {
    const float infinity = __builtin_inff();
    const VecInt32 subnormal = x < 1.17549435e-38F;
    log_detail::Reduced reduced = log_detail::reduce(subnormal ? x * 8388608.0F : x);
    reduced.exponent = subnormal ? reduced.exponent - 23.0F : reduced.exponent;
    VecFloat y = log_detail::assemble(reduced);
    y = x == 0.0F ? broadcast<float>(-infinity) : y;
    y = x < 0.0F ? broadcast<float>(__builtin_nanf("")) : y;
    return ((x == infinity) | (x != x)) ? x : y;
}
inline VecDouble log(VecDouble x) {
    return map_lanes(x, [](double v) { return std::log(v); });
}

// log(1 + x) = log(u) + (1 + x - u) / u with u = 1 + x rounded; the difference is exact.
inline VecFloat log1p(VecFloat x) {
    const float infinity = __builtin_inff();
    const VecFloat u = x + 1.0F;
    const VecFloat lost = x > 1.0F ? 1.0F - (u - x) : x - (u - 1.0F);
    VecFloat y = log_detail::assemble(log_detail::reduce(u)) + lost / u;
    y = x == -1.0F ? broadcast<float>(-infinity) : y;
    y = x < -1.0F ? broadcast<float>(__builtin_nanf("")) : y;
    return ((x == infinity) | (x != x) | (x == 0.0F)) ? x : y;
}
inline VecDouble log1p(VecDouble x) {
    return map_lanes(x, [](double v) { return std::log1p(v); });
}

// exp(x) - 1 = 2 (s expm1(r) + (s - 1/2)), s = 2^(n-1), r as in exp; expm1(r) = r + r^2 P(r).
inline VecFloat expm1(VecFloat x) {
    const VecFloat high = broadcast<float>(88.7228394F), low = broadcast<float>(-18.0F);
    const VecFloat clamped = minimum<float>(maximum<float>(x, low), high);
    const VecFloat n = round_to_nearest_small(clamped * 1.44269504F);
    VecFloat r = clamped - n * 0.693359375F;
    r = r - n * -2.12194440e-4F;
    VecFloat p = broadcast<float>(0.00019845886F);
    p = p * r + 0.00139407441F;
    p = p * r + 0.00833338965F;
    p = p * r + 0.0416663587F;
    p = p * r + 0.166666657F;
    p = p * r + 0.5F;
    p = p * (r * r) + r;
    const VecInt32 whole = __builtin_convertvector(n, VecInt32);
    const VecFloat scale = vec_cast<VecFloat>((whole + 126) << 23);
    VecFloat y = 2.0F * (scale * p + (scale - 0.5F));
    y = x > high ? broadcast<float>(__builtin_inff()) : y;
    return ((x != x) | (x == 0.0F)) ? x : y;
}
inline VecDouble expm1(VecDouble x) {
    return map_lanes(x, [](double v) { return std::expm1(v); });
}

// |x| < 0.625: x + x^3 P(x^2); else 1 - 2 / (exp(2|x|) + 1) with the sign of x.
inline VecFloat tanh(VecFloat x) {
    const VecFloat magnitude = absolute(x), square = x * x;
    VecFloat p = broadcast<float>(-0.00571703678F);
    p = p * square + 0.0206505787F;
    p = p * square + -0.0537434965F;
    p = p * square + 0.133314908F;
    p = p * square + -0.333332837F;
    const VecFloat small = x + x * (square * p);
    const VecFloat large = copy_sign(1.0F - 2.0F / (exp(magnitude + magnitude) + 1.0F), x);
    const VecFloat y = magnitude < 0.625F ? small : large;
    return ((x != x) | (x == 0.0F)) ? x : y;
}
inline VecDouble tanh(VecDouble x) {
    return map_lanes(x, [](double v) { return std::tanh(v); });
}

// |x| < 0.95: x + x P(x^2); else 1 - exp(Q(|x|)), Q fitted to log(erfc), with the sign of x.
inline VecFloat erf(VecFloat x) {
    const VecFloat magnitude = absolute(x), square = x * x;
    VecFloat p = broadcast<float>(8.2154198e-05F);
    p = p * square + -0.000810596393F;
    p = p * square + 0.00519779697F;
    p = p * square + -0.0268581044F;
    p = p * square + 0.112836726F;
    p = p * square + -0.376126319F;
    p = p * square + 0.128379166F;
    const VecFloat small = x + x * p;
    const VecFloat t = minimum<float>(magnitude, broadcast<float>(3.95F));
    VecFloat q = broadcast<float>(-2.09095742e-05F);
    q = q * t + 0.000432303204F;
    q = q * t + -0.00416052807F;
    q = q * t + 0.0250914991F;
    q = q * t + -0.108236626F;
    q = q * t + -0.633386672F;
    q = q * t + -1.12949514F;
    q = q * t + 0.000170552288F;
    const VecFloat large = copy_sign(1.0F - exp(q), x);
    const VecFloat y = magnitude < 0.95F ? small : large;
    return ((x != x) | (x == 0.0F)) ? x : y;
}
inline VecDouble erf(VecDouble x) {
    return map_lanes(x, [](double v) { return std::erf(v); });
}

}  // namespace tempra::cpu::TEMPRA_ISA
