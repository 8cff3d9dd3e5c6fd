// Rows of a table.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// weight [vocabulary, width] f32, bf16 or f64; indices i64 or i32 of any shape, in [0, vocabulary);
// result [..., width] in `dtype`: the weight's, or bf16 with an f32 weight.
[[nodiscard]] Tensor embedding(const Tensor& weight, const Tensor& indices, DType dtype);

}  // namespace tempra
