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

}  // namespace tempra::cpu::TEMPRA_ISA
