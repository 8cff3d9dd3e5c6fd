// Norm and clipping of the gradients of tensors that live outside an arena; over an arena the
// optimizer's step does both in its own passes.
#pragma once

#include <vector>

#include "tempra/tensor.h"

namespace tempra {

// The square root of the sum of squares of all `.grad`s, added up in double; parameters without a
// gradient are passed over.
[[nodiscard]] double gradient_norm(const std::vector<Tensor>& parameters);
// Scales the gradients by max_norm / (norm + 1e-6) where that is below 1; returns the norm before.
// Gradients whose norm is not finite are left as they are.
double clip_gradient_norm_(const std::vector<Tensor>& parameters, double max_norm);
// Limits each element of the gradients to [-limit, limit].
void clip_gradient_value_(const std::vector<Tensor>& parameters, double limit);

}  // namespace tempra
