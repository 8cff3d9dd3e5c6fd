// Rounding to integers on Vec<float> and Vec<double>.
#pragma once

#include "simd/vec_math.h"

namespace tempra::cpu::TEMPRA_ISA {

// To nearest, ties to even. Adding 2^23 leaves no fraction bits; larger numbers have none.
inline VecFloat round(VecFloat x) {
    const VecFloat magnitude = absolute(x);
    const VecFloat rounded = copy_sign((magnitude + 8388608.0F) - 8388608.0F, x);
    return magnitude < 8388608.0F ? rounded : x;
}
inline VecFloat floor(VecFloat x) {
    const VecFloat rounded = round(x);
    return rounded > x ? rounded - 1.0F : rounded;
}
inline VecFloat ceil(VecFloat x) {
    const VecFloat rounded = round(x);
    return copy_sign(rounded < x ? rounded + 1.0F : rounded, x);
}
inline VecDouble round(VecDouble x) {
    return map_lanes(x, [](double v) { return std::nearbyint(v); });
}
inline VecDouble floor(VecDouble x) {
    return map_lanes(x, [](double v) { return std::floor(v); });
}
inline VecDouble ceil(VecDouble x) {
    return map_lanes(x, [](double v) { return std::ceil(v); });
}

}  // namespace tempra::cpu::TEMPRA_ISA
