// Ordering along one dimension. Stable; NaN counts as the largest; gradients flow to the values.
#pragma once

#include <cstdint>

#include "tempra/tensor.h"

namespace tempra {

struct SortResult {
    Tensor values;
    Tensor indices;  // i64
};

[[nodiscard]] SortResult sort(const Tensor& x, std::int64_t dimension = -1,
                              bool descending = false);
// The first `count` of the order, largest first unless `largest` is false.
[[nodiscard]] SortResult topk(const Tensor& x, std::int64_t count, std::int64_t dimension = -1,
                              bool largest = true);
[[nodiscard]] Tensor argsort(const Tensor& x, std::int64_t dimension = -1, bool descending = false);

}  // namespace tempra
