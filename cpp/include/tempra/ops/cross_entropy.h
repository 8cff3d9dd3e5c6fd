// Loss of classification from logits, composed of primitive operations.
#pragma once

#include <cstdint>
#include <string_view>

#include "tempra/tensor.h"

namespace tempra {

struct CrossEntropyOptions {
    std::int64_t ignore_index = -100;
    double label_smoothing = 0;
    double z_loss = 0;
    std::string_view reduction = "mean";  // over the labels that are not ignored; "sum" or "none"
};

// With p = softmax(logits), lse = log_sum_exp(logits), s = label_smoothing:
//   (1 - s) (-log p[label]) + s mean(-log p) + z_loss lse^2,  0 where label == ignore_index.
// logits [..., classes], labels [...] of an integer dtype. The mean over no labels at all is 0.
[[nodiscard]] Tensor cross_entropy(const Tensor& logits, const Tensor& labels,
                                   const CrossEntropyOptions& options = {});

}  // namespace tempra
