// Attention in primitive operations: the oracle of the fused kernels, differentiable to any order.
#pragma once

#include "tempra/fused/attention.h"

namespace tempra {

[[nodiscard]] Tensor composed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                        const AttentionOptions& options, const Tensor& offsets_q,
                                        const Tensor& offsets_k);

}  // namespace tempra
