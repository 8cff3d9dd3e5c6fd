// Activation recomputation (Chen et al. 2016, "Training deep nets with sublinear memory cost"): the
// forward pass keeps only its inputs; the backward pass runs the function again, recording, and
// walks that tape.
#include "autograd/tape.h"
#include "autograd/walk.h"
#include "tempra/autograd.h"
#include "tempra/random.h"

namespace tempra {

namespace {

struct RecomputeNode : Node {
    TensorFunction function;
    std::vector<Tensor> inputs;
    GeneratorState generator;

    [[nodiscard]] const char* name() const override { return "recompute"; }

    void backward(BackwardContext& context) override {
        TEMPRA_CHECK(Error, context.into_leaves(),
                     "recompute: gradients as values (grad) cannot pass a recomputed region, whose "
                     "parameters are not on the tape; use backward()");
        std::vector<Tensor> again;
        for (size_t i = 0; i < inputs.size(); ++i) {
            Tensor input = inputs[i].detach();
            if (context.needs(static_cast<int>(i))) input.set_requires_grad(true);
            again.push_back(input);
        }
        const GeneratorState now = default_generator().state();
        default_generator().set_state(generator);
        std::vector<Tensor> results;
        {
            const GradModeGuard on(true);
            results = function(again);
        }
        default_generator().set_state(now);
        std::vector<Tensor> reached;
        std::vector<Tensor> gradients;
        for (int i = 0; i < outputs; ++i) {
            if (!context.grad_output(i).defined() || !results[i].requires_grad()) continue;
            reached.push_back(results[i]);
            gradients.push_back(context.grad_output(i));
        }
        backward_all(reached, gradients);
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (context.needs(static_cast<int>(i)) && again[i].grad().defined()) {
                context.set(static_cast<int>(i), again[i].grad());
            }
        }
    }

    void release() override {
        inputs.clear();
        function = nullptr;
    }
};

}  // namespace

std::vector<Tensor> recompute(const TensorFunction& function, const std::vector<Tensor>& inputs) {
    if (!is_enabled() || !is_grad_enabled()) return function(inputs);
    auto node = make_counted<RecomputeNode>();
    node->function = function;
    node->generator = default_generator().state();
    std::vector<Tensor> detached;
    for (const Tensor& input : inputs) {
        node->add_input(input);
        node->inputs.push_back(input);
        detached.push_back(input.detach());
    }
    const GradModeGuard off(false);
    std::vector<Tensor> results = function(detached);
    node->outputs = static_cast<int>(results.size());
    for (int i = 0; i < node->outputs; ++i) {
        // An output that is an input would tie the input to this node: give it a handle of its own.
        results[i] = results[i].detach();
        if (is_floating(results[i].dtype())) attach(results[i], node, i);
    }
    return results;
}

}  // namespace tempra
