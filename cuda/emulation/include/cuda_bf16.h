#pragma once

#include "cuda_runtime.h"
#include "tempra/dtype.h"

struct __nv_bfloat16 {
    unsigned short bits;
};
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {tempra::bfloat16::from_float(x).bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
