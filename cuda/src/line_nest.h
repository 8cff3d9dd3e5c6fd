// A tensor as lines along one dimension. Plain C++ and host-tested through the kernels' cases.
#pragma once

#include "element_nest.h"

namespace tempra::cuda {

// Where each line of `kOperands` tensors begins; the step along it is the dimension's stride.
template <int kOperands>
struct LineNest {
    ElementNest<kOperands> starts;
    std::int64_t length = 1;  // of operand 0's lines
    std::int64_t steps[kOperands] = {};

    [[nodiscard]] std::int64_t lines() const { return starts.packs; }
};

// All operands have the sizes of the first except along `dimension`.
template <int kOperands>
[[nodiscard]] LineNest<kOperands> line_nest(const TensorView* const (&views)[kOperands],
                                            std::int32_t dimension) {
    LineNest<kOperands> nest;
    TensorView lines[kOperands];
    const TensorView* starts[kOperands];
    for (int k = 0; k < kOperands; ++k) {
        lines[k] = *views[k];
        starts[k] = &lines[k];
        if (lines[k].dimensions == 0) continue;
        nest.steps[k] = lines[k].strides[dimension];
        if (k == 0) nest.length = lines[k].sizes[dimension];
        lines[k].sizes[dimension] = 1;
    }
    const TensorView* const(&all)[kOperands] = starts;
    nest.starts = element_nest(all, 1);
    return nest;
}

}  // namespace tempra::cuda
