// Gated feed-forward activation (Shazeer 2020, "GLU Variants Improve Transformer").
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// silu(gate) * up; equal shapes and floating dtypes.
[[nodiscard]] Tensor swiglu(const Tensor& gate, const Tensor& up);
// The same with gate and up side by side in the last dimension, [..., 2 n] -> [..., n]: what
// linear_group(x, {gate, up}) returns.
[[nodiscard]] Tensor swiglu_packed(const Tensor& gate_up);

}  // namespace tempra
