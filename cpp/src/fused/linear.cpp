// y = activation(x W^T + b) + r
//
// Backward, with g the gradient of y and h = x W^T + b saved where there is an activation:
//   dr = g;  dh = g * activation'(h);  dx = dh W;  dW += dh^T x;  db += column sums of dh
// dW and db are added straight into the parameters' gradients in f32, or written over them where
// they are zero.
#include "tempra/fused/linear.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "fused/parameter_access.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/matmul.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

UnaryOp unary_of(Activation activation) {
    switch (activation) {
        case Activation::relu: return UnaryOp::relu;
        case Activation::silu: return UnaryOp::silu;
        case Activation::gelu: return UnaryOp::gelu;
        default: return UnaryOp::gelu_tanh;
    }
}

Tensor activated(Activation activation, const Tensor& x) {
    switch (activation) {
        case Activation::relu: return relu(x);
        case Activation::silu: return silu(x);
        case Activation::gelu: return gelu(x);
        case Activation::gelu_tanh: return gelu_tanh(x);
        case Activation::none: break;
    }
    return x;
}

// dx [rows, in] = dh [rows, out] @ weight [out, in]
Tensor input_gradient(const char* name, const Tensor& dh, const Tensor& weight,
                      const Shape& sizes) {
    const Tensor result = empty({dh.size(0), weight.size(1)}, dh.dtype(), dh.device());
    GemmArguments arguments;
    arguments.a = dh.view();
    arguments.b = weight.view();
    arguments.c = result.view();
    launch(name, dh, &KernelTable::gemm, arguments);
    return reshape(result, sizes);
}

// target [out, in] (+)= dh^T [out, rows] @ x [rows, in]
void add_weight_gradient(const char* name, const Tensor& dh, const Tensor& x,
                         const GradientTarget& target) {
    GemmArguments arguments;
    arguments.a = transposed(dh);
    arguments.b = x.view();
    arguments.c = target.buffer.view();
    arguments.accumulate = target.overwrite ? 0 : 1;
    launch(name, dh, &KernelTable::gemm, arguments);
}

// target [out] (+)= column sums of dh [rows, out]
void add_bias_gradient(const char* name, const Tensor& dh, const GradientTarget& target) {
    const Tensor buffer = reshape(target.buffer, {1, dh.size(1)});
    const Tensor sums = target.overwrite ? buffer : empty_like(buffer);
    launch(name, dh, &KernelTable::reduce, ReduceOp::sum, dh.view(), sums.view());
    if (target.overwrite) return;
    launch(name, buffer, &KernelTable::accumulate, sums.view(), buffer.view());
}

// Inputs: x, weights..., biases..., residual.
struct LinearNode : Node {
    SavedInput x;
    std::vector<SavedTensor> weights;
    SavedTensor before_activation;
    Activation activation = Activation::none;
    bool has_residual = false;
    int bias_count = 0;
    Shape output_sizes;

    [[nodiscard]] const char* name() const override {
        return weights.size() == 1 ? "linear" : "linear_group";
    }

    void backward(BackwardContext& context) override {
        const int weight_count = static_cast<int>(weights.size());
        const int residual = 1 + weight_count + bias_count;
        if (context.needs(residual)) context.set(residual, context.grad_output());
        const Tensor dh = gradient_before_activation(context.take_grad_output());
        // Parameters first: what x may have to be made again for is gone before dx is made.
        add_parameter_gradients(context, dh, 1, true);
        if (bias_count > 0) add_parameter_gradients(context, dh, 1 + weight_count, false);
        if (context.needs(0)) {
            std::vector<Tensor> parameters;
            for (const SavedTensor& weight : weights) {
                parameters.push_back(parameter_for(weight.get(name()), dh.dtype()));
            }
            context.set(0, input_gradient(name(), dh, joined(parameters), edges()[0].sizes));
        }
    }

    [[nodiscard]] std::function<Tensor()> output_recipe() const override {
        if (activation == Activation::none || has_residual) return {};
        return [before = before_activation, op = unary_of(activation), sizes = output_sizes] {
            const Tensor& h = before.get("linear");
            const Tensor again = empty(h.sizes(), h.dtype(), h.device());
            launch("linear", h, &KernelTable::unary, op, h.view(), again.view());
            return reshape(again, sizes);
        };
    }

    void release() override {
        x.reset();
        weights.assign(weights.size(), SavedTensor());
        before_activation.reset();
    }

  private:
    // dh as rows, in the memory of g where nobody else holds that.
    [[nodiscard]] Tensor gradient_before_activation(Tensor g) const {
        g = as_rows(g);
        if (activation == Activation::none) return g;
        const Tensor& h = before_activation.get(name());
        const bool in_place = TensorAccess::uniquely_owned(g) && g.is_contiguous();
        const Tensor dh = in_place ? g : empty(g.sizes(), g.dtype(), g.device());
        launch(name(), g, &KernelTable::unary_backward, unary_of(activation), h.view(),
               TensorView{}, g.view(), dh.view());
        return dh;
    }

    // Weights (or biases) whose gradients lie side by side are served by one kernel call.
    void add_parameter_gradients(BackwardContext& context, const Tensor& dh, int first,
                                 bool is_weight) const {
        const int count = static_cast<int>(weights.size());
        std::vector<GradientTarget> targets(count);
        std::vector<Tensor> buffers;
        bool all = true;
        for (int i = 0; i < count; ++i) all = all && context.needs(first + i);
        const Tensor rows = is_weight ? as_rows(x.get(name())) : Tensor();
        const auto add = [&](const Tensor& gradient, const GradientTarget& target) {
            if (is_weight) {
                add_weight_gradient(name(), gradient, rows, target);
            } else {
                add_bias_gradient(name(), gradient, target);
            }
        };
        for (int i = 0; i < count; ++i) {
            if (context.needs(first + i)) targets[i] = context.gradient_target(first + i);
            buffers.push_back(targets[i].buffer);
            all = all && targets[i].overwrite == targets[0].overwrite;
        }
        if (all && lie_side_by_side(buffers)) {
            add(dh, {joined(buffers), targets[0].overwrite});
            return;
        }
        std::int64_t start = 0;
        for (int i = 0; i < count; ++i) {
            const std::int64_t out = edges()[first + i].sizes[0];
            if (buffers[i].defined()) add(narrow(dh, 1, start, out), targets[i]);
            start += out;
        }
    }
};

void check_linear(const char* name, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    TEMPRA_CHECK(DtypeError, is_floating(x.dtype()), "{}: x has dtype {}; needs a floating dtype",
                 name, x.dtype());
    TEMPRA_CHECK(ShapeError, weight.dimensions() == 2, "{}: weight has shape {}; needs [out, in]",
                 name, weight.sizes());
    TEMPRA_CHECK(ShapeError, x.dimensions() >= 1 && x.size(-1) == weight.size(1),
                 "{}: x of shape {} does not fit weight [out, in] = {}", name, x.sizes(),
                 weight.sizes());
    TEMPRA_CHECK(ShapeError,
                 !bias.defined() || (bias.dimensions() == 1 && bias.size(0) == weight.size(0)),
                 "{}: bias has shape {}; needs [{}]", name, bias.sizes(), weight.size(0));
    TEMPRA_CHECK(
        DtypeError,
        weight.dtype() == x.dtype() || (is_half(x.dtype()) && weight.dtype() == DType::f32),
        "{}: x has dtype {}, weight {}; they must be equal, or bf16 or f16 with f32 weights", name,
        x.dtype(), weight.dtype());
    TEMPRA_CHECK(DtypeError,
                 !bias.defined() || bias.dtype() == x.dtype() || bias.dtype() == DType::f32,
                 "{}: x has dtype {}, bias {}; a bias must have that dtype, or f32", name,
                 x.dtype(), bias.dtype());
}

Tensor composed_linear(const Tensor& x, const std::vector<Tensor>& weights,
                       const std::vector<Tensor>& biases, const LinearOptions& options) {
    Tensor result = matmul(x, transpose(cast(concatenate(weights, 0), x.dtype()), 0, 1));
    if (!biases.empty()) result = add(result, cast(concatenate(biases, 0), x.dtype()));
    result = activated(options.activation, result);
    return options.residual.defined() ? add(result, options.residual) : result;
}

Tensor fused_linear(const char* name, const Tensor& x, const std::vector<Tensor>& weights,
                    const std::vector<Tensor>& biases, const LinearOptions& options) {
    std::int64_t out = 0;
    bool recording = should_record({&x, &options.residual});
    std::vector<Tensor> parameters;
    for (size_t i = 0; i < weights.size(); ++i) {
        check_linear(name, x, weights[i], biases.empty() ? Tensor() : biases[i]);
        out += weights[i].size(0);
        recording = recording || should_record({&weights[i]});
        if (!biases.empty()) recording = recording || should_record({&biases[i]});
    }
    Shape sizes = x.sizes();
    sizes[sizes.dimensions() - 1] = out;
    TEMPRA_CHECK(ShapeError, !options.residual.defined() || options.residual.sizes() == sizes,
                 "{}: residual has shape {}; needs {}", name, options.residual.sizes(), sizes);
    if (is_composed()) return composed_linear(x, weights, biases, options);

    for (const Tensor& weight : weights) parameters.push_back(parameter_for(weight, x.dtype()));
    const Tensor rows = as_rows(x);
    const Tensor result = empty({rows.size(0), out}, x.dtype(), x.device());
    const bool keep_input_of_activation = recording && options.activation != Activation::none;
    const Tensor before = keep_input_of_activation ? empty_like(result) : Tensor();
    const Tensor weight = joined(parameters);
    const Tensor bias = biases.empty() ? Tensor() : contiguous(joined(biases));
    const Tensor residual = options.residual.defined() ? as_rows(options.residual) : Tensor();
    GemmArguments arguments;
    arguments.a = rows.view();
    arguments.b = transposed(weight);
    arguments.c = result.view();
    arguments.bias = bias.view();
    arguments.residual = residual.view();
    arguments.pre_activation = before.view();
    arguments.activation = options.activation;
    launch(name, x, &KernelTable::gemm, arguments);

    const GradModeGuard off(false);
    const Tensor shaped = reshape(result, sizes);
    if (recording) {
        auto node = make_node<LinearNode>({&x});
        for (const Tensor& parameter : weights) node->add_input(parameter);
        for (const Tensor& parameter : biases) node->add_input(parameter);
        node->add_input(options.residual);
        node->x = SavedInput::of(x);
        for (const Tensor& parameter : weights) {
            node->weights.push_back(SavedTensor::input(parameter));
        }
        if (before.defined()) node->before_activation = SavedTensor::input(before);
        node->activation = options.activation;
        node->has_residual = options.residual.defined();
        node->output_sizes = sizes;
        node->bias_count = static_cast<int>(biases.size());
        attach(shaped, node);
    }
    return shaped;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
              const LinearOptions& options) {
    std::vector<Tensor> biases;
    if (bias.defined()) biases.push_back(bias);
    return fused_linear("linear", x, {weight}, biases, options);
}

Tensor linear_group(const Tensor& x, const std::vector<Tensor>& weights,
                    const std::vector<Tensor>& biases) {
    TEMPRA_CHECK(ShapeError, !weights.empty(), "linear_group: no weights given");
    TEMPRA_CHECK(ShapeError, biases.empty() || biases.size() == weights.size(),
                 "linear_group: {} biases given for {} weights", biases.size(), weights.size());
    return fused_linear("linear_group", x, weights, biases, {});
}

}  // namespace tempra
