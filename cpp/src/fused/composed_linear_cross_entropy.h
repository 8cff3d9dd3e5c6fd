// The losses of linear_cross_entropy in primitive operations: the oracle of the fused kernel,
// differentiable to any order.
#pragma once

#include "tempra/fused/linear_cross_entropy.h"

namespace tempra {

// Of losses and of what they are computed from.
[[nodiscard]] inline DType statistics_dtype(DType dtype) {
    return dtype == DType::f64 ? DType::f64 : DType::f32;
}

// Of each label, 0 where it does not count (`valid`); not reduced.
[[nodiscard]] Tensor composed_linear_cross_entropy(const Tensor& hidden, const Tensor& weight,
                                                   const Tensor& bias, const Tensor& labels,
                                                   const Tensor& valid,
                                                   const CrossEntropyOptions& options);

}  // namespace tempra
