// exp and friends on Vec<float>; Vec<double> goes through the C library lane by lane (gradient
// checks only). Branch-free, no tables; float results are within 2 units in the last place.
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
// coefficients from a Remez fit). Below -103.97 it is 0, above 88.73 infinity; NaN stays NaN.
inline VecFloat exp(VecFloat x) {
    const VecFloat high = broadcast<float>(88.7228394F), low = broadcast<float>(-87.3365479F);
    const VecFloat clamped = minimum<float>(maximum<float>(x, low), high);
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
    // 2^n by two exponent halves, so that n = 128 does not overflow early.
    const VecInt32 whole = __builtin_convertvector(n, VecInt32);
    const VecInt32 half = whole >> 1;
    const VecFloat scale1 = vec_cast<VecFloat>((half + 127) << 23);
    const VecFloat scale2 = vec_cast<VecFloat>((whole - half + 127) << 23);
    VecFloat y = p * scale1 * scale2;
    y = x < low ? VecFloat{} : y;
    y = x > high ? broadcast<float>(__builtin_inff()) : y;
    return x != x ? x : y;
}
inline VecDouble exp(VecDouble x) {
    return map_lanes(x, [](double v) { return std::exp(v); });
}

// log(x) = e ln 2 + log(1 + f), x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), with the Cephes
// degree-9 polynomial. log(0) = -inf, log(negative) = NaN; denormal arguments are exact inputs too.
inline VecFloat log(VecFloat x) {
    const VecFloat infinity = broadcast<float>(__builtin_inff());
    const VecInt32 denormal = x < 1.17549435e-38F;
    const VecFloat normal = denormal ? x * 8388608.0F : x;
    VecInt32 raw = vec_cast<VecInt32>(normal);
    // Adding the distance from sqrt(1/2) to 1 makes the exponent field round where m passes it.
    raw += 0x3F800000 - 0x3F3504F3;
    const VecInt32 exponent = (raw >> 23) - 127 - (denormal & 23);
    const VecFloat f = vec_cast<VecFloat>((raw & 0x007FFFFF) + 0x3F3504F3) - 1.0F;
    const VecFloat square = f * f;
    VecFloat p = broadcast<float>(7.0376836292e-2F);
    p = p * f - 1.1514610310e-1F;
    p = p * f + 1.1676998740e-1F;
    p = p * f - 1.2420140846e-1F;
    p = p * f + 1.4249322787e-1F;
    p = p * f - 1.6668057665e-1F;
    p = p * f + 2.0000714765e-1F;
    p = p * f - 2.4999993993e-1F;
    p = p * f + 3.3333331174e-1F;
    const VecFloat e = __builtin_convertvector(exponent, VecFloat);
    VecFloat y = p * f * square + e * -2.12194440e-4F;
    y = y - square * 0.5F;
    y = (f + y) + e * 0.693359375F;
    y = x == infinity ? x : y;
    y = x == 0.0F ? -infinity : y;
    return x < 0.0F ? broadcast<float>(__builtin_nanf("")) : (x != x ? x : y);
}
inline VecDouble log(VecDouble x) {
    return map_lanes(x, [](double v) { return std::log(v); });
}

}  // namespace tempra::cpu::TEMPRA_ISA
