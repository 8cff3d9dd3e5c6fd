// The [rows, columns] form that row kernels take: all leading dimensions together, unit column
// stride.
#pragma once

#include "tempra/ops/layout.h"

namespace tempra {

// A view where the strides allow it, else a copy. Not recorded when called without gradients.
[[nodiscard]] inline Tensor as_rows(const Tensor& x) {
    const std::int64_t columns = x.size(-1);
    const std::int64_t rows = columns == 0 ? 0 : x.numel() / columns;
    const bool unit_stride = x.strides().back() == 1 || columns == 1;
    return reshape(unit_stride ? x : contiguous(x), {rows, columns});
}

}  // namespace tempra
