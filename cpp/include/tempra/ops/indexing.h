// Reading and writing elements by index. Indices are i64 or i32; negative ones count from the end.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// out[i][j] = x[i][index[i][j]] (along `dimension`): sizes of `index`, as NumPy take_along_axis.
[[nodiscard]] Tensor gather(const Tensor& x, std::int64_t dimension, const Tensor& index);
// x with source[i][j] added at (or written to) index[i][j] along `dimension`; repeated indices add
// up (the last one wins), in order of position.
[[nodiscard]] Tensor scatter_add(const Tensor& x, std::int64_t dimension, const Tensor& index,
                                 const Tensor& source);
[[nodiscard]] Tensor scatter(const Tensor& x, std::int64_t dimension, const Tensor& index,
                             const Tensor& source);
// Slices of `x` along `dimension`, picked by an index of any shape, which replaces the dimension.
[[nodiscard]] Tensor index_select(const Tensor& x, std::int64_t dimension, const Tensor& index);

}  // namespace tempra
