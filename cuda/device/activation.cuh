// Activations and their derivatives in fp32, the same functions as cpp/src/cpu/simd/activation.h.
// NaN stays NaN; derivatives are finite at +-inf.
#pragma once

#include <cuda_runtime.h>

namespace tempra::cuda {

__device__ __forceinline__ float logistic(float x) { return 1.0F / (1.0F + expf(-x)); }

// `complement` receives 1 - logistic(x), free of cancellation for large x.
__device__ __forceinline__ float logistic(float x, float& complement) {
    const float decay = expf(-fabsf(x));
    const float larger = 1.0F / (1.0F + decay), smaller = decay * larger;
    complement = x < 0.0F ? larger : smaller;
    return x < 0.0F ? smaller : larger;
}

// Unlike fminf and fmaxf, NaN passes.
__device__ __forceinline__ float clamp_keeping_nan(float x, float low, float high) {
    const float above = x < low ? low : x;
    return above > high ? high : above;
}

__device__ __forceinline__ float relu(float x) { return x < 0.0F ? 0.0F : x; }

__device__ __forceinline__ float silu(float x) { return x * logistic(x); }
__device__ __forceinline__ float silu_derivative(float x) {
    x = clamp_keeping_nan(x, -800.0F, 800.0F);
    float complement;
    const float s = logistic(x, complement);
    return s * (1.0F + x * complement);
}

__device__ __forceinline__ float gelu(float x) { return x * normcdff(x); }
__device__ __forceinline__ float gelu_derivative(float x) {
    x = clamp_keeping_nan(x, -60.0F, 60.0F);
    return normcdff(x) + x * expf(-0.5F * x * x) * 0.398942280F;  // 1 / sqrt(2 pi)
}

// x/2 * (1 + tanh(u)) = x * logistic(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3)
inline constexpr float kTwiceTanhScale = 1.59576912F;
inline constexpr float kTanhCubic = 0.044715F;

__device__ __forceinline__ float gelu_tanh(float x) {
    return x * logistic(x * (kTwiceTanhScale + kTwiceTanhScale * kTanhCubic * (x * x)));
}
__device__ __forceinline__ float gelu_tanh_derivative(float x) {
    x = clamp_keeping_nan(x, -60.0F, 60.0F);
    const float square = x * x;
    const float twice_u = x * (kTwiceTanhScale + kTwiceTanhScale * kTanhCubic * square);
    const float slope = kTwiceTanhScale + 3.0F * kTwiceTanhScale * kTanhCubic * square;
    float complement;
    const float s = logistic(twice_u, complement);
    return s + x * slope * (s * complement);
}

}  // namespace tempra::cuda
