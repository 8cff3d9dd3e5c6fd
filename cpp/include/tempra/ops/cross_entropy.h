// Loss of classification from logits, composed of primitive operations.
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

// With p = softmax(logits), lse = log_sum_exp(logits), s = label_smoothing:
//   (1 - s) (-log p[label]) + s mean(-log p) + z_loss lse^2,  0 where label == ignore_index.
// logits [..., classes], labels [...] of an integer dtype. The mean over no labels at all is 0.
[[nodiscard]] Tensor cross_entropy(const Tensor& logits, const Tensor& labels,
                                   const CrossEntropyOptions& options = {});

}  // namespace tempra
