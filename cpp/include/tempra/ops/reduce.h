// Reductions over dimensions. An empty list of dimensions reduces all; `keep` leaves size 1 there.
#pragma once

#include <cstdint>
#include <span>

#include "tempra/tensor.h"

namespace tempra {

[[nodiscard]] Tensor sum(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                         bool keep = false);
[[nodiscard]] Tensor mean(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                          bool keep = false);
[[nodiscard]] Tensor product(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                             bool keep = false);
// The extreme of each slice; the gradient of a tie is shared equally. ShapeError for an empty
// slice.
[[nodiscard]] Tensor maximum_of(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                                bool keep = false);
[[nodiscard]] Tensor minimum_of(const Tensor& x, std::span<const std::int64_t> dimensions = {},
                                bool keep = false);
// Index (i64) of the first extreme along `dimension`.
[[nodiscard]] Tensor argmax(const Tensor& x, std::int64_t dimension, bool keep = false);
[[nodiscard]] Tensor argmin(const Tensor& x, std::int64_t dimension, bool keep = false);
[[nodiscard]] Tensor cumulative_sum(const Tensor& x, std::int64_t dimension, bool reverse = false);

}  // namespace tempra
