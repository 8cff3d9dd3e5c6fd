// Matrix products.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// [..., m, k] @ [..., k, n] -> [..., m, n] with broadcast leading dimensions; 1-d operands as
// NumPy. Both operands have one floating dtype (promoted); fp32 accumulation.
[[nodiscard]] Tensor matmul(const Tensor& a, const Tensor& b);

}  // namespace tempra
