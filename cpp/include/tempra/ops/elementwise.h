// Elementwise operations with NumPy broadcasting. Operands of different dtypes are promoted: the
// widest floating dtype wins (bf16 with f16 gives f32), integers become the other's floating dtype.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

[[nodiscard]] Tensor add(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor subtract(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor multiply(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor divide(const Tensor& a, const Tensor& b);  // integers divide as f32
[[nodiscard]] Tensor power(const Tensor& a, const Tensor& b);
// Elementwise; NaN wins; the gradient of a tie is shared equally.
[[nodiscard]] Tensor maximum(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor minimum(const Tensor& a, const Tensor& b);

// A 0-d tensor that takes the dtype of `like`; where that is an integer one that cannot hold
// `value`, i64 for whole numbers and f32 for others.
[[nodiscard]] Tensor scalar_like(const Tensor& like, double value);

// Comparisons give bool.
[[nodiscard]] Tensor equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor not_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor less(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor less_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor greater(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor greater_equal(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_and(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_or(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_xor(const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor logical_not(const Tensor& x);
[[nodiscard]] Tensor is_finite(const Tensor& x);
[[nodiscard]] Tensor is_nan(const Tensor& x);

[[nodiscard]] Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
[[nodiscard]] Tensor clamp(const Tensor& x, double low, double high);

[[nodiscard]] Tensor negative(const Tensor& x);
[[nodiscard]] Tensor absolute(const Tensor& x);
[[nodiscard]] Tensor exp(const Tensor& x);
[[nodiscard]] Tensor log(const Tensor& x);
[[nodiscard]] Tensor log1p(const Tensor& x);
[[nodiscard]] Tensor expm1(const Tensor& x);
[[nodiscard]] Tensor sqrt(const Tensor& x);
[[nodiscard]] Tensor rsqrt(const Tensor& x);  // 1 / sqrt(x)
[[nodiscard]] Tensor reciprocal(const Tensor& x);
[[nodiscard]] Tensor square(const Tensor& x);
[[nodiscard]] Tensor sin(const Tensor& x);
[[nodiscard]] Tensor cos(const Tensor& x);
[[nodiscard]] Tensor tanh(const Tensor& x);
[[nodiscard]] Tensor erf(const Tensor& x);
[[nodiscard]] Tensor sigmoid(const Tensor& x);
[[nodiscard]] Tensor relu(const Tensor& x);
[[nodiscard]] Tensor silu(const Tensor& x);      // x * sigmoid(x)
[[nodiscard]] Tensor softplus(const Tensor& x);  // log(1 + exp(x))
[[nodiscard]] Tensor gelu(const Tensor& x);      // x * Phi(x), exact (erf)
// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), Hendrycks and Gimpel 2016.
[[nodiscard]] Tensor gelu_tanh(const Tensor& x);
[[nodiscard]] Tensor sign(const Tensor& x);
[[nodiscard]] Tensor floor(const Tensor& x);
[[nodiscard]] Tensor ceil(const Tensor& x);
[[nodiscard]] Tensor round(const Tensor& x);  // ties to even

}  // namespace tempra
