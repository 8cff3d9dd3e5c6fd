// Head projection and loss in one operation: the logits never exist whole.
#pragma once

#include <cstdint>

#include "tempra/tensor.h"

namespace tempra {

enum class Reduction { mean, sum, none };

struct CrossEntropyOptions {
    std::int64_t ignore_index = -100;  // labels that do not count
    double label_smoothing = 0;        // share of the target spread evenly over the vocabulary
    double z_loss = 0;                 // weight of log_sum_exp^2 (Chowdhery et al. 2022, "PaLM")
    Reduction reduction = Reduction::mean;  // mean over the labels that count
};

// Cross-entropy of softmax(hidden @ weight^T + bias) against labels. hidden [..., width]; weight
// [vocabulary, width], bias [vocabulary] of the same dtype, or f32 parameters with bf16 hidden;
// labels
// [...] i64 or i32. Result f32 (f64 for f64): 0-d, or of the labels' shape without reduction. A
// mean over no labels is 0.
[[nodiscard]] Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight,
                                          const Tensor& labels, const Tensor& bias = {},
                                          const CrossEntropyOptions& options = {});

}  // namespace tempra
