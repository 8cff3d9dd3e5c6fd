// Affine maps with their epilogue in one pass.
#pragma once

#include <vector>

#include "tempra/activation.h"
#include "tempra/tensor.h"

namespace tempra {

struct LinearOptions {
    Activation activation = Activation::none;
    Tensor residual;  // added last; sizes and dtype of the result
};

// activation(x @ weight^T + bias) + residual. x [..., in] f32, bf16 or f64; weight [out, in] and
// bias [out] of that dtype, or f32 parameters with bf16 x (their bf16 copy is used where there is
// one). Result [..., out], dtype of x.
[[nodiscard]] Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                            const LinearOptions& options = {});

// Several maps of one input as one result [..., sum of out]: one product where the weights lie side
// by side in memory, as adjacent parameters of an arena do. `biases` is empty or one per weight.
[[nodiscard]] Tensor linear_group(const Tensor& x, const std::vector<Tensor>& weights,
                                  const std::vector<Tensor>& biases = {});

}  // namespace tempra
