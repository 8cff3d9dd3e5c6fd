// Element types in device code: kernels load into fp32, compute, and round once, at the store.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "tempra/dtype.h"

namespace tempra::cuda {

template <class T>
struct ArithmeticOf {
    using type = T;
};
template <>
struct ArithmeticOf<bfloat16> {
    using type = float;
};
template <>
struct ArithmeticOf<float16> {
    using type = float;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;

template <class T>
__device__ __forceinline__ Arithmetic<T> to_arithmetic(T x) {
    return x;
}
template <>
__device__ __forceinline__ float to_arithmetic<bfloat16>(bfloat16 x) {
    return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
}
template <>
__device__ __forceinline__ float to_arithmetic<float16>(float16 x) {
    return __half2float(__ushort_as_half(x.bits));
}

template <class T>
__device__ __forceinline__ T from_arithmetic(Arithmetic<T> x) {
    return x;
}
template <>
__device__ __forceinline__ bfloat16 from_arithmetic<bfloat16>(float x) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
template <>
__device__ __forceinline__ float16 from_arithmetic<float16>(float x) {
    return {__half_as_ushort(__float2half_rn(x))};
}

}  // namespace tempra::cuda
