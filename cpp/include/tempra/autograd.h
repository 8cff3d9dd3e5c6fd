// Gradients: recording, the backward walk, gradients as values, recomputation.
#pragma once

#include <functional>
#include <vector>

#include "tempra/tensor.h"

namespace tempra {

// Whether operations are recorded on this thread.
[[nodiscard]] bool is_grad_enabled();
void set_grad_enabled(bool enabled);

class GradModeGuard {
  public:
    explicit GradModeGuard(bool enabled) : previous_(is_grad_enabled()) {
        set_grad_enabled(enabled);
    }
    ~GradModeGuard() { set_grad_enabled(previous_); }
    GradModeGuard(const GradModeGuard&) = delete;
    GradModeGuard& operator=(const GradModeGuard&) = delete;

  private:
    bool previous_;
};

// Whether fused operations run as the primitive operations they stand for: slower, differentiable
// to any order, and the oracle of the fused kernels' tests.
[[nodiscard]] bool is_composed();
void set_composed(bool composed);

// Adds the gradients of `output` (times `gradient`; ones for a single element when undefined) to
// the
// `.grad` of every leaf it depends on. The tape is freed unless `retain_graph`.
void backward(const Tensor& output, const Tensor& gradient = {}, bool retain_graph = false);

struct GradOptions {
    bool create_graph = false;  // the result can be differentiated again
    bool retain_graph = false;
    bool allow_unused = false;  // undefined results for inputs the outputs do not depend on
};

// Gradients of `outputs` with respect to `inputs`, as fresh tensors. Walks only paths that lead to
// `inputs`; `.grad` of leaves is left as it is.
[[nodiscard]] std::vector<Tensor> grad(const std::vector<Tensor>& outputs,
                                       const std::vector<Tensor>& inputs,
                                       const std::vector<Tensor>& grad_outputs = {},
                                       const GradOptions& options = {});

// Runs `function` without saving what happens inside; the backward pass runs it again. Random
// numbers repeat: the default generator is rewound to where it stood.
using TensorFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;
[[nodiscard]] std::vector<Tensor> recompute(const TensorFunction& function,
                                            const std::vector<Tensor>& inputs);

}  // namespace tempra
