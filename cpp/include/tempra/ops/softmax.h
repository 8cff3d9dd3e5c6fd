// Normalised exponentials along one dimension.
#pragma once

#include <cstdint>
#include <span>

#include "tempra/tensor.h"

namespace tempra {

// exp(x - m) / sum(exp(x - m)), m the largest along `dimension`.
[[nodiscard]] Tensor softmax(const Tensor& x, std::int64_t dimension = -1);
// x - m - log(sum(exp(x - m)))
[[nodiscard]] Tensor log_softmax(const Tensor& x, std::int64_t dimension = -1);
// log(sum(exp(x))) without overflow; an empty list of dimensions reduces all.
[[nodiscard]] Tensor log_sum_exp(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                                 bool keep = false);

}  // namespace tempra
