// Layer norm and RMS norm over the last dimension. With xhat the normalised x and g = dy * weight:
//   layer norm:  dx = rstd (g - mean(g) - xhat mean(g xhat))
//   RMS norm:    dx = rstd (g - xhat mean(g xhat))
//   dweight = sum over rows of dy xhat,  dbias = sum over rows of dy
// Kept for the backward pass: x and one or two statistics a row; weight gradients are added
// straight into the leaf's gradient.
#include "tempra/ops/normalization.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/rows.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

constexpr std::int64_t kLast[] = {-1};

Tensor mean_of_row(const Tensor& x) { return mean(x, kLast, true); }

// f64 for f64, else f32: what the kernels compute in.
DType statistics_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

struct NormNode : PrimitiveNode {
    double epsilon = 0;
    SavedTensor x, weight, bias, mean, rstd;

    [[nodiscard]] Tensor weight_buffer(BackwardContext& context, int input) const {
        const bool wanted = edges()[static_cast<size_t>(input)].connected() && context.needs(input);
        return wanted ? context.gradient_buffer(input) : Tensor();
    }
    // dy * weight in the dtype of the statistics, for the graph rule.
    [[nodiscard]] Tensor scaled_gradient(const Tensor& dy) const {
        return weight.defined() ? multiply(dy, weight.get(name())) : dy;
    }
    void release() override {
        for (SavedTensor* saved : {&x, &weight, &bias, &mean, &rstd}) saved->reset();
    }
};

Tensor run_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                      const Tensor& mean, const Tensor& rstd) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    if (x.numel() > 0) {
        const GradModeGuard off(false);
        launch("layer_norm", x, &KernelTable::layer_norm, as_rows(x).view(), weight.view(),
               bias.view(), epsilon, as_rows(result).view(), mean.view(), rstd.view());
    }
    return result;
}

Tensor run_rms_norm(const Tensor& x, const Tensor& weight, double epsilon, const Tensor& rstd) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    if (x.numel() > 0) {
        const GradModeGuard off(false);
        launch("rms_norm", x, &KernelTable::rms_norm, as_rows(x).view(), weight.view(), epsilon,
               as_rows(result).view(), rstd.view());
    }
    return result;
}

struct LayerNormNode : NormNode {
    [[nodiscard]] const char* name() const override { return "layer_norm"; }
    [[nodiscard]] std::function<Tensor()> output_recipe() const override {
        return [input = x, scale = weight, shift = bias, small = epsilon] {
            return run_layer_norm(input.get("layer_norm"), scale.get("layer_norm"),
                                  shift.get("layer_norm"), small, {}, {});
        };
    }

    void backward(BackwardContext& context) override {
        const Tensor& input = x.get(name());
        const Tensor grad_weight = weight_buffer(context, 1);
        const Tensor grad_bias = weight_buffer(context, 2);
        Tensor grad_x;
        if (context.needs(0)) grad_x = empty(input.sizes(), input.dtype(), input.device());
        if (input.numel() > 0) {
            const Tensor grad_rows = grad_x.defined() ? as_rows(grad_x) : Tensor();
            launch(name(), input, &KernelTable::layer_norm_backward,
                   as_rows(context.grad_output()).view(), as_rows(input).view(),
                   weight.get(name()).view(), mean.get(name()).view(), rstd.get(name()).view(),
                   grad_rows.view(), grad_weight.view(), grad_bias.view());
        }
        if (grad_x.defined()) context.set(0, grad_x);
    }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        const DType wide = statistics_dtype(edges()[0].dtype);
        const Tensor input = cast(x.get(name()), wide);
        const Tensor dy = cast(grads[0], wide);
        const Tensor centered = subtract(input, mean_of_row(input));
        const Tensor variance = mean_of_row(square(centered));
        const Tensor scale = rsqrt(add(variance, scalar_like(variance, epsilon)));
        const Tensor xhat = multiply(centered, scale);
        std::vector<Tensor> results(edges().size());
        if (needed[0] != 0) {
            const Tensor g = scaled_gradient(dy);
            const Tensor along_xhat = multiply(xhat, mean_of_row(multiply(g, xhat)));
            results[0] = multiply(scale, subtract(subtract(g, mean_of_row(g)), along_xhat));
        }
        if (needed[1] != 0) results[1] = sum_to(multiply(dy, xhat), edges()[1].sizes);
        if (needed[2] != 0) results[2] = sum_to(dy, edges()[2].sizes);
        return results;
    }
};

struct RmsNormNode : NormNode {
    [[nodiscard]] const char* name() const override { return "rms_norm"; }
    [[nodiscard]] std::function<Tensor()> output_recipe() const override {
        return [input = x, scale = weight, small = epsilon] {
            return run_rms_norm(input.get("rms_norm"), scale.get("rms_norm"), small, {});
        };
    }

    void backward(BackwardContext& context) override {
        const Tensor& input = x.get(name());
        const Tensor grad_weight = weight_buffer(context, 1);
        Tensor grad_x;
        if (context.needs(0)) grad_x = empty(input.sizes(), input.dtype(), input.device());
        if (input.numel() > 0) {
            const Tensor grad_rows = grad_x.defined() ? as_rows(grad_x) : Tensor();
            launch(name(), input, &KernelTable::rms_norm_backward,
                   as_rows(context.grad_output()).view(), as_rows(input).view(),
                   weight.get(name()).view(), rstd.get(name()).view(), grad_rows.view(),
                   grad_weight.view());
        }
        if (grad_x.defined()) context.set(0, grad_x);
    }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        const DType wide = statistics_dtype(edges()[0].dtype);
        const Tensor input = cast(x.get(name()), wide);
        const Tensor dy = cast(grads[0], wide);
        const Tensor power = mean_of_row(square(input));
        const Tensor scale = rsqrt(add(power, scalar_like(power, epsilon)));
        const Tensor xhat = multiply(input, scale);
        std::vector<Tensor> results(edges().size());
        if (needed[0] != 0) {
            const Tensor g = scaled_gradient(dy);
            const Tensor along_xhat = multiply(xhat, mean_of_row(multiply(g, xhat)));
            results[0] = multiply(scale, subtract(g, along_xhat));
        }
        if (needed[1] != 0) results[1] = sum_to(multiply(dy, xhat), edges()[1].sizes);
        return results;
    }
};

void check_parameter(const char* name, const char* parameter, const Tensor& value,
                     const Tensor& x) {
    if (!value.defined()) return;
    TEMPRA_CHECK(ShapeError, value.dimensions() == 1 && value.size(0) == x.size(-1),
                 "{}: {} of shape {} given for x of shape {}; needs [{}]", name, parameter,
                 value.sizes(), x.sizes(), x.size(-1));
    TEMPRA_CHECK(DtypeError, is_floating(value.dtype()),
                 "{}: {} of dtype {}; needs a floating-point dtype", name, parameter,
                 value.dtype());
}

void check_input(const char* name, const Tensor& x, double epsilon) {
    TEMPRA_CHECK(ShapeError, x.dimensions() >= 1, "{}: x is 0-d; needs [..., columns]", name);
    TEMPRA_CHECK(DtypeError, is_floating(x.dtype()),
                 "{}: x of dtype {}; needs a floating-point dtype", name, x.dtype());
    TEMPRA_CHECK(ConfigError, epsilon >= 0, "{}: epsilon {} is negative", name, epsilon);
}

// Parameters of one dtype that the kernel takes beside x: that of x, or the statistics' dtype.
Tensor parameter_for(const Tensor& value, const Tensor& other, const Tensor& x) {
    if (!value.defined()) return value;
    const bool like_x =
        value.dtype() == x.dtype() && (!other.defined() || other.dtype() == x.dtype());
    return contiguous(cast(value, like_x ? x.dtype() : statistics_dtype(x.dtype())));
}

Tensor row_statistic(const Tensor& x, bool recording) {
    if (!recording) return {};
    const std::int64_t rows = x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
    return empty({rows}, statistics_dtype(x.dtype()), x.device());
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight_given, const Tensor& bias_given,
                  double epsilon) {
    check_input("layer_norm", x, epsilon);
    check_parameter("layer_norm", "weight", weight_given, x);
    check_parameter("layer_norm", "bias", bias_given, x);
    const Tensor weight = parameter_for(weight_given, bias_given, x);
    const Tensor bias = parameter_for(bias_given, weight_given, x);
    const bool recording = should_record({&x, &weight, &bias});
    const Tensor mean = row_statistic(x, recording);
    const Tensor rstd = row_statistic(x, recording);
    const Tensor result = run_layer_norm(x, weight, bias, epsilon, mean, rstd);
    if (recording) {
        auto node = make_node<LayerNormNode>({&x, &weight, &bias});
        node->bias = SavedTensor::input(bias);
        node->epsilon = epsilon;
        node->x = SavedTensor::input(x);
        node->weight = SavedTensor::input(weight);
        node->mean = SavedTensor::input(mean);
        node->rstd = SavedTensor::input(rstd);
        attach(result, node);
    }
    return result;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight_given, double epsilon) {
    check_input("rms_norm", x, epsilon);
    check_parameter("rms_norm", "weight", weight_given, x);
    const Tensor weight = parameter_for(weight_given, {}, x);
    const bool recording = should_record({&x, &weight});
    const Tensor rstd = row_statistic(x, recording);
    const Tensor result = run_rms_norm(x, weight, epsilon, rstd);
    if (recording) {
        auto node = make_node<RmsNormNode>({&x, &weight});
        node->epsilon = epsilon;
        node->x = SavedTensor::input(x);
        node->weight = SavedTensor::input(weight);
        node->rstd = SavedTensor::input(rstd);
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
