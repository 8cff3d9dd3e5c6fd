// The arithmetic the backward walk needs. Declared here, where it is used, and defined by the ops
// layer (ops/gradient_arithmetic.cpp), which lies above this one: the walk stays below the
// operations it differentiates. All of them record when recording is on.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

[[nodiscard]] Tensor gradient_zeros(const Shape& sizes, DType dtype, Device device);
[[nodiscard]] Tensor gradient_ones(const Shape& sizes, DType dtype, Device device);
[[nodiscard]] Tensor gradient_copy(const Tensor& gradient);
[[nodiscard]] Tensor gradient_contiguous(const Tensor& gradient);
[[nodiscard]] Tensor gradient_cast(const Tensor& gradient, DType dtype);
[[nodiscard]] Tensor gradient_sum(const Tensor& a, const Tensor& b);

}  // namespace tempra
