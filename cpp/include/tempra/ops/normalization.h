// Normalisation over the last dimension, with optional elementwise weight and bias [columns]. x may
// be bf16 with f32 weights; statistics are f32 (f64 for f64).
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// (x - mean) / sqrt(variance + epsilon) * weight + bias; an undefined weight or bias is left out.
[[nodiscard]] Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                                double epsilon = 1e-5);
// x / sqrt(mean(x^2) + epsilon) * weight
[[nodiscard]] Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double epsilon = 1e-6);

}  // namespace tempra
