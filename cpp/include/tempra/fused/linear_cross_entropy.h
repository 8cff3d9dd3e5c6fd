// Head projection and loss in one operation: the logits never exist whole.
#pragma once

#include "tempra/ops/cross_entropy.h"
#include "tempra/tensor.h"

namespace tempra {

// Cross-entropy of softmax(hidden @ weight^T + bias) against labels. hidden [..., width]; weight
// [vocabulary, width], bias [vocabulary] of the same dtype, or f32 parameters with bf16 hidden;
// labels [...] i64 or i32. Result f32 (f64 for f64): 0-d, or of the labels' shape without
// reduction. A mean over no labels is 0.
[[nodiscard]] Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight,
                                          const Tensor& labels, const Tensor& bias = {},
                                          const CrossEntropyOptions& options = {});

// The same loss, summed or averaged, computed by its backward pass, which then adds to the weight's
// gradient directly: nothing of the weight's size is held in between. The value is NaN until then.
// Where nothing is recorded (or in composed mode) it is the loss above. ConfigError without
// reduction.
[[nodiscard]] Tensor deferred_linear_cross_entropy(const Tensor& hidden, const Tensor& weight,
                                                   const Tensor& labels, const Tensor& bias = {},
                                                   const CrossEntropyOptions& options = {});

}  // namespace tempra
