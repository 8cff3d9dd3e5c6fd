// Unary elementwise operations: one node type for all; the derivative of each, stated in
// operations, is in `derivative`, and the kernels' `unary_backward` is the same rule in one pass.
#include <cmath>
#include <numbers>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

constexpr const char* kNames[] = {
    "negative", "absolute",   "exp",    "log",         "log1p",     "expm1",     "sqrt",
    "rsqrt",    "reciprocal", "square", "sin",         "cos",       "tanh",      "erf",
    "sigmoid",  "relu",       "silu",   "softplus",    "gelu",      "gelu_tanh", "sign",
    "floor",    "ceil",       "round",  "logical_not", "is_finite", "is_nan"};
static_assert(std::size(kNames) == static_cast<size_t>(UnaryOp::count_));

const char* name_of(UnaryOp op) { return kNames[static_cast<int>(op)]; }

Tensor times(const Tensor& x, double factor) { return multiply(x, scalar_like(x, factor)); }
Tensor plus(const Tensor& x, double summand) { return add(x, scalar_like(x, summand)); }
Tensor one_minus(const Tensor& x) { return plus(negative(x), 1.0); }

// d gelu / dx = Phi(x) + x phi(x)
Tensor gelu_derivative(const Tensor& x) {
    const Tensor cdf = times(plus(erf(times(x, std::numbers::sqrt2 / 2)), 1.0), 0.5);
    const double inverse_sqrt_2pi = 0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2;
    const Tensor pdf = times(exp(times(square(x), -0.5)), inverse_sqrt_2pi);
    return add(cdf, multiply(x, pdf));
}

// With u = c (x + a x^3), t = tanh(u): 0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3 a x^2)
Tensor gelu_tanh_derivative(const Tensor& x) {
    const double c = std::sqrt(2.0 / std::numbers::pi);
    const double a = 0.044715;
    const Tensor x2 = square(x);
    const Tensor t = tanh(times(multiply(x, plus(times(x2, a), 1.0)), c));
    const Tensor inner = times(plus(times(x2, 3 * a), 1.0), 0.5 * c);
    return add(times(plus(t, 1.0), 0.5), multiply(multiply(x, one_minus(square(t))), inner));
}

// op'(x), stated in operations so that it can be differentiated again.
Tensor derivative(UnaryOp op, const Tensor& x) {
    switch (op) {
        case UnaryOp::negative: return full(x.sizes(), -1.0, x.dtype(), x.device());
        case UnaryOp::absolute: return sign(x);
        case UnaryOp::exp: return exp(x);
        case UnaryOp::log: return reciprocal(x);
        case UnaryOp::log1p: return reciprocal(plus(x, 1.0));
        case UnaryOp::expm1: return exp(x);
        case UnaryOp::sqrt: return times(rsqrt(x), 0.5);
        case UnaryOp::rsqrt: return times(multiply(rsqrt(x), reciprocal(x)), -0.5);
        case UnaryOp::reciprocal: return negative(square(reciprocal(x)));
        case UnaryOp::square: return times(x, 2.0);
        case UnaryOp::sin: return cos(x);
        case UnaryOp::cos: return negative(sin(x));
        case UnaryOp::tanh: return one_minus(square(tanh(x)));
        case UnaryOp::erf: return times(exp(negative(square(x))), 2.0 * std::numbers::inv_sqrtpi);
        case UnaryOp::sigmoid: {
            const Tensor s = sigmoid(x);
            return multiply(s, one_minus(s));
        }
        case UnaryOp::relu: return cast(greater(x, scalar_like(x, 0.0)), x.dtype());
        case UnaryOp::silu: {
            const Tensor s = sigmoid(x);
            return multiply(s, plus(multiply(x, one_minus(s)), 1.0));
        }
        case UnaryOp::softplus: return sigmoid(x);
        case UnaryOp::gelu: return gelu_derivative(x);
        case UnaryOp::gelu_tanh: return gelu_tanh_derivative(x);
        default: return zeros_like(x);  // piecewise constant
    }
}

struct UnaryNode : PrimitiveNode {
    UnaryOp op = UnaryOp::negative;
    SavedTensor input, output;

    [[nodiscard]] const char* name() const override { return name_of(op); }
    void backward(BackwardContext& context) override {
        const Tensor& x = input.get(name());
        const Tensor result = empty(x.sizes(), x.dtype(), x.device());
        const TensorView out = output.defined() ? output.get(name()).view() : TensorView{};
        launch(name(), x, &KernelTable::unary_backward, op, x.view(), out,
               context.grad_output().view(), result.view());
        context.set(0, result);
    }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {multiply(grads[0], derivative(op, input.get(name())))};
    }
    void release() override {
        input.reset();
        output.reset();
    }
};

bool gives_bool(UnaryOp op) { return op >= UnaryOp::logical_not; }

// Device kernels of one operand are for floats; whole numbers take those of two.
Tensor of_integers(UnaryOp op, const Tensor& x) {
    const Tensor zero = scalar_like(x, 0);
    switch (op) {
        case UnaryOp::negative: return subtract(zero, x);
        case UnaryOp::absolute: return maximum(x, subtract(zero, x));
        case UnaryOp::square: return multiply(x, x);
        case UnaryOp::relu: return maximum(x, zero);
        default: return subtract(cast(greater(x, zero), x.dtype()), cast(less(x, zero), x.dtype()));
    }
}

Tensor unary(UnaryOp op, const Tensor& input) {
    // Functions of integers are real-valued, except those that keep whole numbers whole.
    const bool keeps_integers = op == UnaryOp::negative || op == UnaryOp::absolute ||
                                op == UnaryOp::square || op == UnaryOp::sign || op == UnaryOp::relu;
    const Tensor x = is_floating(input.dtype()) || gives_bool(op) || keeps_integers
                         ? input
                         : cast(input, DType::f32);
    const bool whole = x.dtype() == DType::i64 || x.dtype() == DType::i32;
    if (whole && keeps_integers && x.device().type != DeviceType::cpu) return of_integers(op, x);
    const Tensor result = empty(x.sizes(), gives_bool(op) ? DType::boolean : x.dtype(), x.device());
    launch(name_of(op), x, &KernelTable::unary, op, x.view(), result.view());
    if (!gives_bool(op) && should_record({&x})) {
        auto node = make_node<UnaryNode>({&x});
        node->op = op;
        node->input = SavedTensor::input(x);
        // Where the derivative is simplest in the output, the kernel reads that.
        const bool by_output = op == UnaryOp::exp || op == UnaryOp::sqrt || op == UnaryOp::rsqrt ||
                               op == UnaryOp::reciprocal || op == UnaryOp::tanh ||
                               op == UnaryOp::sigmoid;
        if (by_output) node->output = SavedTensor::output(result);
        attach(result, node);
    }
    return result;
}

}  // namespace

Tensor negative(const Tensor& x) { return unary(UnaryOp::negative, x); }
Tensor absolute(const Tensor& x) { return unary(UnaryOp::absolute, x); }
Tensor exp(const Tensor& x) { return unary(UnaryOp::exp, x); }
Tensor log(const Tensor& x) { return unary(UnaryOp::log, x); }
Tensor log1p(const Tensor& x) { return unary(UnaryOp::log1p, x); }
Tensor expm1(const Tensor& x) { return unary(UnaryOp::expm1, x); }
Tensor sqrt(const Tensor& x) { return unary(UnaryOp::sqrt, x); }
Tensor rsqrt(const Tensor& x) { return unary(UnaryOp::rsqrt, x); }
Tensor reciprocal(const Tensor& x) { return unary(UnaryOp::reciprocal, x); }
Tensor square(const Tensor& x) { return unary(UnaryOp::square, x); }
Tensor sin(const Tensor& x) { return unary(UnaryOp::sin, x); }
Tensor cos(const Tensor& x) { return unary(UnaryOp::cos, x); }
Tensor tanh(const Tensor& x) { return unary(UnaryOp::tanh, x); }
Tensor erf(const Tensor& x) { return unary(UnaryOp::erf, x); }
Tensor sigmoid(const Tensor& x) { return unary(UnaryOp::sigmoid, x); }
Tensor relu(const Tensor& x) { return unary(UnaryOp::relu, x); }
Tensor silu(const Tensor& x) { return unary(UnaryOp::silu, x); }
Tensor softplus(const Tensor& x) { return unary(UnaryOp::softplus, x); }
Tensor gelu(const Tensor& x) { return unary(UnaryOp::gelu, x); }
Tensor gelu_tanh(const Tensor& x) { return unary(UnaryOp::gelu_tanh, x); }
Tensor sign(const Tensor& x) { return unary(UnaryOp::sign, x); }
Tensor floor(const Tensor& x) { return unary(UnaryOp::floor, x); }
Tensor ceil(const Tensor& x) { return unary(UnaryOp::ceil, x); }
Tensor round(const Tensor& x) { return unary(UnaryOp::round, x); }
Tensor logical_not(const Tensor& x) { return unary(UnaryOp::logical_not, x); }
Tensor is_finite(const Tensor& x) { return unary(UnaryOp::is_finite, x); }
Tensor is_nan(const Tensor& x) { return unary(UnaryOp::is_nan, x); }

}  // namespace tempra
