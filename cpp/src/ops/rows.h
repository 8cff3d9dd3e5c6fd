// The [rows, columns] form that row kernels and matrix products take.
#pragma once

#include "tempra/autograd.h"
#include "tempra/ops/layout.h"

namespace tempra {

// x as a matrix [rows, columns] with unit column stride and rows that do not overlap: all leading
// dimensions together. A view where possible, else a copy; recording nothing.
[[nodiscard]] inline Tensor as_rows(const Tensor& x) {
    const GradModeGuard off(false);
    TEMPRA_CHECK(ShapeError, x.dimensions() >= 1, "rows: a 0-d tensor has no rows");
    if (x.dimensions() == 2 && (x.size(1) <= 1 || x.strides()[1] == 1) &&
        (x.size(0) <= 1 || x.strides()[0] >= x.size(1))) {
        return x;
    }
    const std::int64_t columns = x.size(-1);
    const std::int64_t rows = columns == 0 ? 0 : x.numel() / columns;
    return reshape(contiguous(x), {rows, columns});
}

// x, or a copy, with unit stride along the last dimension.
[[nodiscard]] inline Tensor unit_columns(const Tensor& x) {
    return x.size(-1) <= 1 || x.strides()[x.dimensions() - 1] == 1 ? x : clone(x);
}

}  // namespace tempra
