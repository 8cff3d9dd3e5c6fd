// With y = softmax(x):      dx = y (dy - sum(dy y))
// with y = log_softmax(x):  dx = dy - exp(y) sum(dy)
// Both rules need only the output, which is saved.
#include "tempra/ops/softmax.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/rows.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

struct SoftmaxNode : PrimitiveNode {
    bool logarithm = false;
    SavedTensor output;

    [[nodiscard]] const char* name() const override {
        return logarithm ? "log_softmax" : "softmax";
    }
    void backward(BackwardContext& context) override {
        const Tensor& y = output.get(name());
        const Tensor result = empty(y.sizes(), y.dtype(), y.device());
        if (y.numel() > 0) {
            const Tensor out = as_rows(y);
            const Tensor grad_out = as_rows(context.grad_output());
            launch(name(), y, &KernelTable::softmax_backward, out.view(), grad_out.view(),
                   std::int32_t{logarithm}, as_rows(result).view());
        }
        context.set(0, result);
    }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const Tensor y = output.get_output(*this);
        const std::int64_t last[] = {-1};
        if (logarithm) {
            return {subtract(grads[0], multiply(exp(y), sum(grads[0], last, true)))};
        }
        return {multiply(y, subtract(grads[0], sum(multiply(grads[0], y), last, true)))};
    }
    void release() override { output.reset(); }
};

Tensor softmax_last(const Tensor& x, bool logarithm) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    const char* name = logarithm ? "log_softmax" : "softmax";
    if (x.numel() > 0) {
        const GradModeGuard off(false);
        launch(name, x, &KernelTable::softmax, as_rows(x).view(), std::int32_t{logarithm},
               as_rows(result).view());
    }
    if (should_record({&x})) {
        auto node = make_node<SoftmaxNode>({&x});
        node->logarithm = logarithm;
        node->output = SavedTensor::output(result);
        attach(result, node);
    }
    return result;
}

Tensor along(const char* name, const Tensor& x, std::int64_t dimension, bool logarithm) {
    TEMPRA_CHECK(DtypeError, is_floating(x.dtype()),
                 "{}: dtype {} given; needs a floating-point dtype", name, x.dtype());
    const int axis = normalize_dimension(name, dimension, x.dimensions());
    if (axis == x.dimensions() - 1) return softmax_last(x, logarithm);
    return transpose(softmax_last(transpose(x, axis, -1), logarithm), axis, -1);
}

}  // namespace

Tensor softmax(const Tensor& x, std::int64_t dimension) {
    return along("softmax", x, dimension, false);
}
Tensor log_softmax(const Tensor& x, std::int64_t dimension) {
    return along("log_softmax", x, dimension, true);
}

Tensor log_sum_exp(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    TEMPRA_CHECK(DtypeError, is_floating(x.dtype()),
                 "log_sum_exp: dtype {} given; needs a floating-point dtype", x.dtype());
    // The shift cancels, so it takes no part in the gradient; a slice of only -inf is not shifted.
    Tensor shift;
    {
        const GradModeGuard off(false);
        const Tensor largest = maximum_of(x, dimensions, true);
        shift = where(is_finite(largest), largest, scalar_like(largest, 0));
    }
    const Tensor total = sum(exp(subtract(x, shift)), dimensions, true);
    const Tensor kept = add(log(total), shift);
    if (keep) return kept;
    return reshape(kept, maximum_of(x.detach(), dimensions, false).sizes());
}

}  // namespace tempra
