// pow on Vec<float>, in double precision: |x|^y = 2^(y log2 |x|) with log2 by the series of
// 2 artanh((m - 1) / (m + 1)) and 2^t by Taylor's series, both to about 2^-40, so that the float
// result is rounded almost exactly. Special cases are those of the C library.
#pragma once

#include "simd/vec_rounding.h"
#include "simd/vec_trigonometry.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace power_detail {

inline constexpr double kIntegerMagic = 0x1.8p52;  // adding it leaves an integer in the low bits

// For positive finite x that came from a float (so normal as a double).
inline VecDouble log2_positive(VecDouble x) {
    const VecInt64 raw = vec_cast<VecInt64>(x);
    const VecInt64 exponent = (raw - 0x3FE6A09E667F3BCDLL) >> 52;
    const VecDouble m = vec_cast<VecDouble>(raw - (exponent << 52));
    const VecDouble whole = vec_cast<VecDouble>(exponent + 0x4338000000000000LL) - kIntegerMagic;
    const VecDouble s = (m - 1.0) / (m + 1.0), z = s * s;
    VecDouble p = broadcast<double>(1.0 / 15);
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    p = p * z + 1.0;
    return whole + s * p * 2.88539008177792681472;  // 2 / ln 2
}

inline VecDouble exp2_bounded(VecDouble t) {
    t = t > 1000.0 ? broadcast<double>(1000.0) : t;
    t = t < -1000.0 ? broadcast<double>(-1000.0) : t;
    const VecDouble shifted = t + kIntegerMagic;
    const VecDouble r = (t - (shifted - kIntegerMagic)) * 0.69314718055994530942;
    VecDouble p = broadcast<double>(1.0 / 3628800);
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const VecInt64 scale = (vec_cast<VecInt64>(shifted) << 52) + 0x3FF0000000000000LL;
    return p * vec_cast<VecDouble>(scale);
}

inline VecDouble power_of_positive(VecDouble x, VecDouble y) {
    return exp2_bounded(y * log2_positive(x));
}

}  // namespace power_detail

inline VecFloat pow(VecFloat x, VecFloat y) {
    const VecFloat one = broadcast<float>(1.0F), infinity = broadcast<float>(__builtin_inff());
    const VecFloat magnitude = absolute(x);
    const VecInt32 degenerate = (magnitude == 0.0F) | (magnitude == infinity);
    const WideVec base = widen(degenerate ? one : magnitude), exponent = widen(y);
    VecFloat result = narrow(power_detail::power_of_positive(base.low, exponent.low),
                             power_detail::power_of_positive(base.high, exponent.high));
    // Zero and infinity: the result is the one or the other, by the sign of y.
    const VecInt32 grows = (magnitude == 0.0F) ^ (y > 0.0F);
    result = degenerate ? (grows ? infinity : VecFloat{}) : result;
    result = ((magnitude == 1.0F) & (absolute(y) == infinity)) ? one : result;
    // A negative base: odd exponents keep the sign, fractions have no real result.
    const VecInt32 integral = (round(y) == y);
    const VecFloat half = y * 0.5F;
    const VecInt32 odd = integral & (round(half) != half) & (absolute(y) < 16777216.0F);
    const VecInt32 negative = vec_cast<VecInt32>(x) < 0;
    result = negative & odd ? -result : result;
    result = ((x < 0.0F) & (integral == 0) & (magnitude != infinity))
                 ? broadcast<float>(__builtin_nanf(""))
                 : result;
    result = ((x != x) | (y != y)) ? x + y : result;
    return ((y == 0.0F) | (x == 1.0F)) ? one : result;
}
inline VecDouble pow(VecDouble x, VecDouble y) {
    double bases[kLanes<double>], exponents[kLanes<double>];
    std::memcpy(bases, &x, sizeof(x));
    std::memcpy(exponents, &y, sizeof(y));
    for (int i = 0; i < kLanes<double>; ++i) bases[i] = std::pow(bases[i], exponents[i]);
    std::memcpy(&x, bases, sizeof(x));
    return x;
}

}  // namespace tempra::cpu::TEMPRA_ISA
