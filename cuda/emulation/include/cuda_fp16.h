#pragma once

#include "cuda_runtime.h"

struct __half {
    _Float16 value;
};
inline __half __float2half_rn(float x) { return {static_cast<_Float16>(x)}; }
inline float __half2float(__half x) { return static_cast<float>(x.value); }
inline unsigned short __half_as_ushort(__half x) {
    unsigned short raw;
    std::memcpy(&raw, &x, 2);
    return raw;
}
inline __half __ushort_as_half(unsigned short raw) {
    __half x;
    std::memcpy(&x, &raw, 2);
    return x;
}
