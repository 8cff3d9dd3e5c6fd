// How fused operations read parameters: in the dtype they compute in, and several as one span.
#pragma once

#include <span>
#include <vector>

#include "ops/rows.h"
#include "tempra/tensor.h"
#include "tensor/half_dtypes.h"

namespace tempra {

// `parameter` as an operand beside activations of `dtype`, recording nothing: itself where it has
// that dtype; for an f32 parameter beside bf16 or f16, its copy in the arena if there is one
// (brought up to date first if the parameter was written since), else itself on the CPU, whose
// kernels round it as they read it; a fresh cast in all other cases.
[[nodiscard]] Tensor parameter_for(const Tensor& parameter, DType dtype);

// True when the tensors are contiguous, of one dtype, and each starts where the one before ends.
[[nodiscard]] bool lie_side_by_side(std::span<const Tensor> tensors);

// A tensor over all of `tensors` joined along dimension 0: a view where they lie side by side, else
// a copy (of parameters), recording nothing.
[[nodiscard]] Tensor joined(std::span<const Tensor> tensors);

// A matrix as a kernel's operand, rows and columns exchanged.
[[nodiscard]] TensorView transposed(const Tensor& matrix);

}  // namespace tempra
