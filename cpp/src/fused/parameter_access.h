// How fused operations read parameters: in the dtype they compute in, and several as one span.
#pragma once

#include <span>
#include <vector>

#include "ops/rows.h"
#include "tempra/tensor.h"

namespace tempra {

// `parameter` in `dtype`, recording nothing: itself, its bf16 copy in the arena (brought up to date
// first if the parameter was written since), or a fresh cast.
[[nodiscard]] Tensor parameter_as(const Tensor& parameter, DType dtype);

// True when the tensors are contiguous, of one dtype, and each starts where the one before ends.
[[nodiscard]] bool lie_side_by_side(std::span<const Tensor> tensors);

// A tensor over all of `tensors` joined along dimension 0: a view where they lie side by side, else
// a copy (of parameters), recording nothing.
[[nodiscard]] Tensor joined(std::span<const Tensor> tensors);

}  // namespace tempra
