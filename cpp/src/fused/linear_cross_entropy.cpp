// With p = softmax(logits) and target distribution t: dlogits = (p - t) + 2 z lse p, then
//   dhidden = dlogits W;  dW = dlogits^T hidden;  db = column sums of dlogits
// With a reduced loss these are computed in the forward pass, while a chunk's logits are in cache,
// and scaled by the incoming gradient in backward. Without reduction the scale differs per row and
// is not known yet, so backward recomputes the logits from the saved log-sum-exps. A deferred loss
// is computed in backward together with its gradients, which then need no memory of their own.
#include "tempra/fused/linear_cross_entropy.h"

#include <initializer_list>
#include <limits>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "fused/composed_linear_cross_entropy.h"
#include "fused/parameter_access.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

constexpr const char* kName = "linear_cross_entropy";

LinearCrossEntropyArguments base_arguments(const Tensor& hidden, const Tensor& weight,
                                           const Tensor& bias, const Tensor& labels,
                                           const CrossEntropyOptions& options) {
    LinearCrossEntropyArguments arguments;
    arguments.hidden = hidden.view();
    arguments.weight = weight.view();
    arguments.bias = bias.view();
    arguments.labels = labels.view();
    arguments.ignore_index = options.ignore_index;
    arguments.label_smoothing = options.label_smoothing;
    arguments.z_loss = options.z_loss;
    return arguments;
}

void run(const Tensor& hidden, const Tensor& weight, const CrossEntropyOptions& options,
         const LinearCrossEntropyArguments& arguments) {
    const KernelStatus status = launch_status(kName, hidden.device(), hidden.dtype(),
                                              &KernelTable::linear_cross_entropy, arguments);
    TEMPRA_CHECK(ShapeError, status != kKernelIndexOutOfRange,
                 "{}: a label is outside [0, {}) and is not ignore_index {}", kName, weight.size(0),
                 options.ignore_index);
    check_status(status, kName, hidden.dtype(), hidden.device());
}

bool on_cpu(const Tensor& x) { return x.device().type == DeviceType::cpu; }

// A factor of 1 costs no pass on the CPU; on a device it is not read back to find out.
Tensor scaled_by(const Tensor& gradient, const Tensor& scale) {
    if (on_cpu(scale) && scale.item() == 1.0) return gradient;
    return multiply(gradient, cast(scale, gradient.dtype()));
}

// target += scale * gradient, in f32
void add_scaled(const Tensor& gradient, const Tensor& scale, const Tensor& target) {
    const Tensor scaled = scaled_by(gradient, scale);
    launch(kName, target, &KernelTable::accumulate, scaled.view(), target.view());
}

// The kernel writes over all its gradients or adds to all: where they differ, those to be written
// over are made zeros.
bool overwrite_all(std::initializer_list<const GradientTarget*> targets) {
    bool all = true;
    for (const auto* target : targets) {
        all = all && (target->overwrite || !target->buffer.defined());
    }
    for (const auto* target : targets) {
        if (target->overwrite && !all) fill_(target->buffer, 0);
    }
    return all;
}

// Inputs hidden, weight, bias. Gradients were computed in the forward pass, for a gradient of 1.
struct ReducedLossNode : Node {
    Tensor grad_hidden, grad_weight, grad_bias;
    [[nodiscard]] const char* name() const override { return kName; }
    void backward(BackwardContext& context) override {
        const Tensor scale = context.grad_output();
        if (context.needs(0)) {
            context.set(0, reshape(scaled_by(grad_hidden, scale), edges()[0].sizes));
        }
        if (context.needs(1)) add_scaled(grad_weight, scale, context.gradient_buffer(1));
        if (context.needs(2)) add_scaled(grad_bias, scale, context.gradient_buffer(2));
    }
    void release() override { grad_hidden = grad_weight = grad_bias = Tensor(); }
};

// What a mean divides by: the number of labels that count, at least 1. On a device it is not read
// back, but stays there as 1 / number, [].
struct Divisor {
    std::int64_t counted = 1;
    Tensor reciprocal;
};

// A loss whose gradients are computed in backward, from what went into it.
struct LaterGradientsNode : Node {
    SavedTensor hidden, weight, bias, labels;
    CrossEntropyOptions options;
    [[nodiscard]] const char* name() const override { return kName; }
    void save(const Tensor& hidden_rows, const Tensor& head, const Tensor& offset,
              const Tensor& flat_labels, const CrossEntropyOptions& given) {
        hidden = SavedTensor::input(hidden_rows);
        weight = SavedTensor::input(head);
        if (offset.defined()) bias = SavedTensor::input(offset);
        labels = SavedTensor::input(flat_labels);
        options = given;
    }
    void release() override {
        for (SavedTensor* saved : {&hidden, &weight, &bias, &labels}) saved->reset();
    }

  protected:
    // complete(arguments, rows) says which loss it is.
    template <class Complete>
    void compute_gradients(BackwardContext& context, const Complete& complete) {
        const Tensor rows = as_rows(hidden.get(name()));
        const Tensor parameter = parameter_for(weight.get(name()), rows.dtype());
        const Tensor offset = bias.defined() ? contiguous(bias.get(name())) : Tensor();
        LinearCrossEntropyArguments arguments =
            base_arguments(rows, parameter, offset, labels.get(name()), options);
        Tensor grad_hidden;
        GradientTarget grad_weight;
        GradientTarget grad_bias;
        if (context.needs(0)) grad_hidden = empty(rows.sizes(), rows.dtype(), rows.device());
        if (context.needs(1)) grad_weight = context.gradient_target(1);
        if (context.needs(2)) grad_bias = context.gradient_target(2);
        const bool overwrite = overwrite_all({&grad_weight, &grad_bias});
        arguments.grad_hidden = grad_hidden.view();
        arguments.grad_weight = grad_weight.buffer.view();
        arguments.grad_bias = grad_bias.buffer.view();
        arguments.accumulate = overwrite ? 0 : 1;
        complete(arguments, rows);
        run(rows, parameter, options, arguments);
        if (context.needs(0)) context.set(0, reshape(grad_hidden, edges()[0].sizes));
    }
};

struct UnreducedLossNode : LaterGradientsNode {
    SavedTensor losses, log_sum_exps;
    void backward(BackwardContext& context) override {
        const Tensor grad_losses = context.contiguous_grad_output();
        compute_gradients(context, [&](LinearCrossEntropyArguments& arguments, const Tensor& rows) {
            arguments.losses = losses.get(name()).view();
            arguments.log_sum_exps = log_sum_exps.get(name()).view();
            arguments.grad_losses = reshape(grad_losses, {rows.size(0)}).view();
        });
    }
    void release() override {
        LaterGradientsNode::release();
        losses.reset();
        log_sum_exps.reset();
    }
};

// A reduced loss and its gradients, all in backward; `result` gets its value there.
struct DeferredLossNode : LaterGradientsNode {
    Tensor result;  // detached, the same storage
    Divisor divisor;
    void backward(BackwardContext& context) override;
    void release() override {
        LaterGradientsNode::release();
        result = Tensor();
    }
};

Tensor reduce_losses(const Tensor& losses, const Divisor& divisor, Reduction reduction) {
    const Tensor total = sum(losses);
    if (reduction == Reduction::sum || divisor.counted == 0) return total;
    if (divisor.reciprocal.defined()) return multiply(total, divisor.reciprocal);
    return multiply(total, scalar_like(total, 1.0 / static_cast<double>(divisor.counted)));
}

double scale_of(const CrossEntropyOptions& options, const Divisor& divisor) {
    const bool average = options.reduction == Reduction::mean && divisor.counted > 0;
    return average ? 1.0 / static_cast<double>(divisor.counted) : 1.0;
}

// On a device the scale of the gradient is there: every row is given the same number, [tokens] with
// a stride of 0.
TensorView same_for_all(const Tensor& scale, std::int64_t tokens) {
    return expand(reshape(scale, {1}), {tokens}).view();
}

void DeferredLossNode::backward(BackwardContext& context) {
    Tensor losses;
    Tensor scale = context.grad_output();
    if (divisor.reciprocal.defined()) scale = multiply(scale, divisor.reciprocal);
    compute_gradients(context, [&](LinearCrossEntropyArguments& arguments, const Tensor& rows) {
        losses = empty({rows.size(0)}, statistics_dtype(rows.dtype()), rows.device());
        arguments.losses = losses.view();
        if (on_cpu(rows)) {
            arguments.grad_scale = scale.item() * scale_of(options, divisor);
        } else {
            arguments.grad_losses = same_for_all(scale, rows.size(0));
        }
    });
    copy_(result, reduce_losses(losses, divisor, options.reduction));
}

void check_arguments(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                     const Tensor& bias, const CrossEntropyOptions& options) {
    TEMPRA_CHECK(
        ShapeError,
        weight.dimensions() == 2 && hidden.dimensions() >= 1 && hidden.size(-1) == weight.size(1),
        "{}: hidden of shape {} does not fit weight [vocabulary, width] = {}", kName,
        hidden.sizes(), weight.sizes());
    Shape rows = hidden.sizes();
    rows.erase(rows.dimensions() - 1);
    TEMPRA_CHECK(ShapeError, labels.sizes() == rows, "{}: labels have shape {}; needs {}", kName,
                 labels.sizes(), rows);
    TEMPRA_CHECK(DtypeError, labels.dtype() == DType::i64 || labels.dtype() == DType::i32,
                 "{}: labels have dtype {}; needs i64 or i32", kName, labels.dtype());
    TEMPRA_CHECK(
        DtypeError,
        weight.dtype() == hidden.dtype() ||
            (is_half(hidden.dtype()) && weight.dtype() == DType::f32),
        "{}: hidden has dtype {}, weight {}; they must be equal, or bf16 or f16 with f32 weights",
        kName, hidden.dtype(), weight.dtype());
    TEMPRA_CHECK(ShapeError,
                 !bias.defined() || (bias.dimensions() == 1 && bias.size(0) == weight.size(0)),
                 "{}: bias has shape {}; needs [{}]", kName, bias.sizes(), weight.size(0));
    TEMPRA_CHECK(ConfigError, options.label_smoothing >= 0 && options.label_smoothing <= 1,
                 "{}: label_smoothing {} given; needs [0, 1]", kName, options.label_smoothing);
    TEMPRA_CHECK(ConfigError, options.z_loss >= 0, "{}: z_loss {} given; needs 0 or more", kName,
                 options.z_loss);
}

// Which labels count.
Tensor valid_labels(const Tensor& labels, const CrossEntropyOptions& options) {
    return not_equal(labels, scalar_like(labels, static_cast<double>(options.ignore_index)));
}

Divisor count(const Tensor& valid, const CrossEntropyOptions& options) {
    Divisor divisor;
    if (on_cpu(valid)) {
        divisor.counted = static_cast<std::int64_t>(sum(valid).item());
    } else if (options.reduction == Reduction::mean) {
        const GradModeGuard off(false);
        const Tensor counted = cast(sum(valid), DType::f32);
        divisor.reciprocal = reciprocal(maximum(counted, scalar_like(counted, 1)));
    }
    return divisor;
}

}  // namespace

Tensor deferred_linear_cross_entropy(const Tensor& hidden, const Tensor& weight,
                                     const Tensor& labels, const Tensor& bias,
                                     const CrossEntropyOptions& options) {
    TEMPRA_CHECK(ConfigError, options.reduction != Reduction::none,
                 "{}: a deferred loss is one number; needs reduction sum or mean", kName);
    if (is_composed() || !should_record({&hidden, &weight, &bias})) {
        return linear_cross_entropy(hidden, weight, labels, bias, options);
    }
    check_arguments(hidden, weight, labels, bias, options);
    const GradModeGuard off(false);
    const Tensor result = full({}, std::numeric_limits<double>::quiet_NaN(),
                               statistics_dtype(hidden.dtype()), hidden.device());
    auto node = make_node<DeferredLossNode>({&hidden, &weight, &bias});
    node->save(hidden, weight, bias, reshape(contiguous(labels), {labels.numel()}), options);
    node->result = result.detach();
    node->divisor = count(valid_labels(labels, options), options);
    attach(result, node);
    return result;
}

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                            const Tensor& bias, const CrossEntropyOptions& options) {
    check_arguments(hidden, weight, labels, bias, options);
    const Tensor valid = valid_labels(labels, options);
    const Divisor divisor = count(valid, options);
    if (is_composed()) {
        const Tensor losses =
            composed_linear_cross_entropy(hidden, weight, bias, labels, valid, options);
        return options.reduction == Reduction::none
                   ? losses
                   : reduce_losses(losses, divisor, options.reduction);
    }

    const bool recording = should_record({&hidden, &weight, &bias});
    const GradModeGuard off(false);
    const Tensor rows = as_rows(hidden);
    const Tensor parameter = parameter_for(weight, rows.dtype());
    const Tensor offset = bias.defined() ? contiguous(bias) : bias;
    const Tensor flat_labels = reshape(contiguous(labels), {labels.numel()});
    const DType dtype = statistics_dtype(rows.dtype());
    const Tensor losses = empty({rows.size(0)}, dtype, rows.device());
    const Tensor log_sum_exps = empty({rows.size(0)}, dtype, rows.device());
    LinearCrossEntropyArguments arguments =
        base_arguments(rows, parameter, offset, flat_labels, options);
    arguments.losses = losses.view();
    arguments.log_sum_exps = log_sum_exps.view();

    if (options.reduction == Reduction::none || !recording) {
        run(rows, parameter, options, arguments);
        if (options.reduction != Reduction::none) {
            return reduce_losses(losses, divisor, options.reduction);
        }
        const Tensor result = reshape(losses, labels.sizes());
        if (recording) {
            auto node = make_node<UnreducedLossNode>({&hidden, &weight, &bias});
            node->save(hidden, weight, bias, flat_labels, options);
            node->losses = SavedTensor::output(losses);
            node->log_sum_exps = SavedTensor::output(log_sum_exps);
            attach(result, node);
        }
        return result;
    }

    auto node = make_node<ReducedLossNode>({&hidden, &weight, &bias});
    if (hidden.requires_grad()) node->grad_hidden = empty_like(rows);
    if (weight.requires_grad()) node->grad_weight = empty(weight.sizes(), dtype, rows.device());
    if (bias.defined() && bias.requires_grad()) {
        node->grad_bias = empty(bias.sizes(), dtype, rows.device());
    }
    arguments.grad_hidden = node->grad_hidden.view();
    arguments.grad_weight = node->grad_weight.view();
    arguments.grad_bias = node->grad_bias.view();
    arguments.accumulate = 0;
    if (divisor.reciprocal.defined()) {
        arguments.grad_losses = same_for_all(divisor.reciprocal, rows.size(0));
        arguments.log_sum_exps = {};
    } else {
        arguments.grad_scale = scale_of(options, divisor);
    }
    run(rows, parameter, options, arguments);
    const Tensor result = reduce_losses(losses, divisor, options.reduction);
    attach(result, node);
    return result;
}

}  // namespace tempra
