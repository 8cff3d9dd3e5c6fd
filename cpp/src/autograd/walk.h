// The backward walk from several outputs at once, into the leaves.
#pragma once

#include <vector>

#include "tempra/tensor.h"

namespace tempra {

void backward_all(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
                  bool retain_graph = false);

}  // namespace tempra
