// Elementwise operations; either operand of a binary one may be a Python number.
#include "bindings.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"

namespace tempra::python {

namespace {

using Binary = Tensor (*)(const Tensor&, const Tensor&);

// Either operand may be a Python number.
template <Binary operation>
Tensor with_scalars(const Operand& a, const Operand& b) {
    if (const auto* left = std::get_if<Tensor>(&a)) return operation(*left, to_operand(b, *left));
    if (const auto* right = std::get_if<Tensor>(&b))
        return operation(to_operand(a, *right), *right);
    throw py::type_error("a and b: two numbers given; needs at least one Tensor");
}

template <Binary operation>
void bind_binary(py::module_& module, const char* name, const char* doc) {
    module.def(name, &with_scalars<operation>, py::arg("a"), py::arg("b"), doc);
}

}  // namespace

void bind_elementwise(py::module_& module) {
    bind_binary<add>(module, "add", "a + b, broadcast.");
    bind_binary<subtract>(module, "subtract", "a - b, broadcast.");
    bind_binary<multiply>(module, "multiply", "a * b, broadcast.");
    bind_binary<divide>(module, "divide", "a / b, broadcast; integers divide as f32.");
    bind_binary<power>(module, "power", "a ** b, broadcast.");
    bind_binary<maximum>(module, "maximum", "Larger of a and b; NaN wins.");
    bind_binary<minimum>(module, "minimum", "Smaller of a and b; NaN wins.");
    bind_binary<equal>(module, "equal", "a == b, elementwise (bool).");
    bind_binary<not_equal>(module, "not_equal", "a != b, elementwise (bool).");
    bind_binary<less>(module, "less", "a < b, elementwise (bool).");
    bind_binary<less_equal>(module, "less_equal", "a <= b, elementwise (bool).");
    bind_binary<greater>(module, "greater", "a > b, elementwise (bool).");
    bind_binary<greater_equal>(module, "greater_equal", "a >= b, elementwise (bool).");
    bind_binary<logical_and>(module, "logical_and", "a and b, elementwise (bool).");
    bind_binary<logical_or>(module, "logical_or", "a or b, elementwise (bool).");
    bind_binary<logical_xor>(module, "logical_xor", "Exactly one of a and b (bool).");
    module.def(
        "where",
        [](const Tensor& condition, const Operand& a, const Operand& b) {
            if (const auto* left = std::get_if<Tensor>(&a)) {
                return where(condition, *left, to_operand(b, *left));
            }
            const auto* number = std::get_if<double>(&b);
            const Tensor right = number != nullptr ? full({}, *number) : std::get<Tensor>(b);
            return where(condition, to_operand(a, right), right);
        },
        py::arg("condition"), py::arg("a"), py::arg("b"), "a where condition holds, else b.");
    module.def("clamp", &clamp, py::arg("x"), py::arg("low"), py::arg("high"),
               "x limited to [low, high].");

    const auto x = py::arg("x");
    module.def("negative", &negative, x, "-x.");
    module.def("absolute", &absolute, x, "|x|.");
    module.def("exp", &exp, x, "e ** x.");
    module.def("log", &log, x, "Natural logarithm.");
    module.def("log1p", &log1p, x, "log(1 + x).");
    module.def("expm1", &expm1, x, "exp(x) - 1.");
    module.def("sqrt", &sqrt, x, "Square root.");
    module.def("rsqrt", &rsqrt, x, "1 / sqrt(x).");
    module.def("reciprocal", &reciprocal, x, "1 / x.");
    module.def("square", &square, x, "x * x.");
    module.def("sin", &sin, x, "Sine of radians.");
    module.def("cos", &cos, x, "Cosine of radians.");
    module.def("tanh", &tanh, x, "Hyperbolic tangent.");
    module.def("erf", &erf, x, "Error function.");
    module.def("sigmoid", &sigmoid, x, "1 / (1 + exp(-x)).");
    module.def("relu", &relu, x, "max(x, 0).");
    module.def("silu", &silu, x, "x * sigmoid(x).");
    module.def("softplus", &softplus, x, "log(1 + exp(x)).");
    module.def(
        "gelu",
        [](const Tensor& input, const std::string& approximate) {
            TEMPRA_CHECK(ConfigError, approximate == "none" || approximate == "tanh",
                         "gelu: approximate='{}' given; choose 'none' or 'tanh'", approximate);
            return approximate == "tanh" ? gelu_tanh(input) : gelu(input);
        },
        x, py::kw_only(), py::arg("approximate") = "none",
        "x * Phi(x); approximate='tanh' for the tanh form.");
    module.def("sign", &sign, x, "-1, 0 or 1.");
    module.def("floor", &floor, x, "Largest whole number <= x.");
    module.def("ceil", &ceil, x, "Smallest whole number >= x.");
    module.def("round", &round, x, "Nearest whole number, ties to even.");
    module.def("logical_not", &logical_not, x, "not x, elementwise (bool).");
    module.def("is_finite", &is_finite, x, "Neither infinite nor NaN (bool).");
    module.def("is_nan", &is_nan, x, "NaN (bool).");
}

}  // namespace tempra::python
