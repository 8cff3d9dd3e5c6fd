// y = silu(a) b, with s = sigmoid(a):  da = dy b s (1 + a (1 - s));  db = dy silu(a)
#include "tempra/fused/swiglu.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "fused/parameter_access.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

Tensor run_forward(const Tensor& a, const Tensor& b, const Shape& sizes) {
    const Tensor rows = empty(a.sizes(), a.dtype(), a.device());
    launch("swiglu", a, &KernelTable::swiglu, a.view(), b.view(), rows.view());
    return reshape(rows, sizes);
}

struct SwigluNode : Node {
    SavedTensor gate, up;
    [[nodiscard]] const char* name() const override { return "swiglu"; }
    void backward(BackwardContext& context) override {
        const Tensor a = as_rows(gate.get(name()));
        const Tensor b = as_rows(up.get(name()));
        const Tensor grad_gate = empty(a.sizes(), a.dtype(), a.device());
        const Tensor grad_up = empty(a.sizes(), a.dtype(), a.device());
        launch(name(), a, &KernelTable::swiglu_backward, a.view(), b.view(),
               as_rows(context.grad_output()).view(), grad_gate.view(), grad_up.view());
        if (context.needs(0)) context.set(0, reshape(grad_gate, edges()[0].sizes));
        if (context.needs(1)) context.set(1, reshape(grad_up, edges()[1].sizes));
    }
    [[nodiscard]] std::function<Tensor()> output_recipe() const override {
        return [a = gate, b = up] {
            const Tensor& x = a.get("swiglu");
            return run_forward(as_rows(x), as_rows(b.get("swiglu")), x.sizes());
        };
    }
    void release() override {
        gate.reset();
        up.reset();
    }
};

// [..., 2n] -> [..., n]
Tensor run_packed(const Tensor& gate_up) {
    const Tensor rows = as_rows(gate_up);
    const std::int64_t n = rows.size(1) / 2;
    Shape sizes = gate_up.sizes();
    sizes[sizes.dimensions() - 1] = n;
    return run_forward(narrow(rows, 1, 0, n), narrow(rows, 1, n, n), sizes);
}

// Both gradients are written into one buffer, so that the product before this needs no join: over
// gate and up themselves where nobody else needs them, since no tensor of a block is larger.
struct SwigluPackedNode : Node {
    SavedTensor gate_up;
    [[nodiscard]] const char* name() const override { return "swiglu_packed"; }
    void backward(BackwardContext& context) override {
        const Tensor& saved = gate_up.get(name());
        const bool in_place =
            context.last_use() && TensorAccess::uniquely_owned(saved) && saved.is_contiguous();
        Tensor x = as_rows(saved);
        const std::int64_t n = x.size(1) / 2;
        const Tensor grad = in_place ? x : empty(x.sizes(), x.dtype(), x.device());
        // If the walk fails later, another one must not take the gradient for the saved tensor.
        if (in_place) x.bump_version();
        launch(name(), x, &KernelTable::swiglu_backward, narrow(x, 1, 0, n).view(),
               narrow(x, 1, n, n).view(), as_rows(context.grad_output()).view(),
               narrow(grad, 1, 0, n).view(), narrow(grad, 1, n, n).view());
        context.set(0, reshape(grad, edges()[0].sizes));
    }
    [[nodiscard]] std::function<Tensor()> output_recipe() const override {
        return [kept = gate_up] { return run_packed(kept.get("swiglu_packed")); };
    }
    void release() override { gate_up.reset(); }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
    TEMPRA_CHECK(ShapeError, gate.sizes() == up.sizes(), "swiglu: gate has shape {}, up {}",
                 gate.sizes(), up.sizes());
    TEMPRA_CHECK(DtypeError, gate.dtype() == up.dtype(), "swiglu: gate has dtype {}, up {}",
                 gate.dtype(), up.dtype());
    if (is_composed()) return multiply(silu(gate), up);
    const bool recording = should_record({&gate, &up});
    const GradModeGuard off(false);
    const Tensor result = run_forward(as_rows(gate), as_rows(up), gate.sizes());
    if (recording) {
        auto node = make_node<SwigluNode>({&gate, &up});
        node->gate = SavedTensor::input(gate);
        node->up = SavedTensor::input(up);
        attach(result, node);
    }
    return result;
}

Tensor swiglu_packed(const Tensor& gate_up) {
    TEMPRA_CHECK(ShapeError, gate_up.dimensions() >= 1 && gate_up.size(-1) % 2 == 0,
                 "swiglu_packed: shape {} has no even last dimension", gate_up.sizes());
    const std::int64_t n = gate_up.size(-1) / 2;
    if (is_composed()) {
        return multiply(silu(narrow(gate_up, -1, 0, n)), narrow(gate_up, -1, n, n));
    }
    const bool recording = should_record({&gate_up});
    const GradModeGuard off(false);
    const Tensor result = run_packed(gate_up);
    if (recording) {
        auto node = make_node<SwigluPackedNode>({&gate_up});
        node->gate_up = SavedTensor::input(gate_up);
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
