// Fused operations: linear, embedding, rotary, attention, swiglu, linear_cross_entropy, recompute.
#include "bindings.h"
#include "tempra/autograd.h"
#include "tempra/fused/attention.h"
#include "tempra/fused/embedding.h"
#include "tempra/fused/linear.h"
#include "tempra/fused/linear_cross_entropy.h"
#include "tempra/fused/rotary.h"
#include "tempra/fused/swiglu.h"
#include "tempra/ops/cross_entropy.h"

namespace tempra::python {

namespace {

using OptionalTensor = std::optional<Tensor>;

template <class Value>
struct Choice {
    const char* name;
    Value value;
};

// One of a few names, or a ConfigError that lists them.
template <class Value, size_t count>
Value choose(const char* argument, const std::string& given,
             const Choice<Value> (&choices)[count]) {
    std::string names;
    for (const Choice<Value>& choice : choices) {
        if (given == choice.name) return choice.value;
        names += std::string(names.empty() ? "" : ", ") + choice.name;
    }
    throw ConfigError(format("{}='{}' given; choose one of {}", argument, given, names));
}

constexpr Choice<Activation> kActivations[] = {{"none", Activation::none},
                                               {"relu", Activation::relu},
                                               {"silu", Activation::silu},
                                               {"gelu", Activation::gelu},
                                               {"gelu_tanh", Activation::gelu_tanh}};
constexpr Choice<Reduction> kReductions[] = {
    {"mean", Reduction::mean}, {"sum", Reduction::sum}, {"none", Reduction::none}};

AttentionOptions attention_options(bool causal, const OptionalTensor& offsets_q,
                                   const OptionalTensor& offsets_k, std::optional<double> scale,
                                   std::int64_t window, double dropout_probability,
                                   std::int64_t longest_q, std::int64_t longest_k, bool even) {
    AttentionOptions options;
    options.causal = causal;
    options.scale = scale;
    options.window = window;
    options.dropout_probability = dropout_probability;
    options.offsets_q = offsets_q.value_or(Tensor());
    options.offsets_k = offsets_k.value_or(Tensor());
    options.longest_q = longest_q;
    options.longest_k = longest_k;
    options.even = even;
    return options;
}

// Calls back into Python from the backward walk, which runs without the GIL.
TensorFunction python_function(const py::function& function) {
    auto held =
        std::shared_ptr<py::function>(new py::function(function), [](py::function* pointer) {
            const py::gil_scoped_acquire gil;
            delete pointer;
        });
    return [held](const std::vector<Tensor>& inputs) {
        const py::gil_scoped_acquire gil;
        py::tuple arguments(inputs.size());
        for (size_t i = 0; i < inputs.size(); ++i) arguments[i] = inputs[i];
        const py::object result = (*held)(*arguments);
        if (py::isinstance<Tensor>(result)) return std::vector<Tensor>{result.cast<Tensor>()};
        return result.cast<std::vector<Tensor>>();
    };
}

void bind_linear(py::module_& module) {
    module.def(
        "linear",
        [](const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
           const std::string& activation, const OptionalTensor& residual) {
            LinearOptions options;
            options.activation = choose("linear: activation", activation, kActivations);
            options.residual = residual.value_or(Tensor());
            return linear(x, weight, bias.value_or(Tensor()), options);
        },
        py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(), py::kw_only(),
        py::arg("activation") = "none", py::arg("residual") = py::none(),
        "activation(x @ weight.T + bias) + residual; x [..., in], weight [out, in] -> [..., out].");
    module.def(
        "linear_group",
        [](const Tensor& x, const std::vector<Tensor>& weights,
           const std::optional<std::vector<Tensor>>& biases) {
            return linear_group(x, weights, biases.value_or(std::vector<Tensor>()));
        },
        py::arg("x"), py::arg("weights"), py::arg("biases") = py::none(),
        "Several linear maps of x side by side: [..., in] -> [..., sum of out].");
    module.def(
        "embedding",
        [](const Tensor& weight, const Tensor& indices, std::optional<DType> dtype) {
            return embedding(weight, indices, dtype.value_or(weight.dtype()));
        },
        py::arg("weight"), py::arg("indices"), py::kw_only(), py::arg("dtype") = py::none(),
        "Rows of weight [vocabulary, width] at indices [...] -> [..., width].");
    module.def("swiglu", &swiglu, py::arg("gate"), py::arg("up"), "silu(gate) * up.");
    module.def("swiglu_packed", &swiglu_packed, py::arg("gate_up"),
               "silu(gate) * up with both in one tensor [..., 2 n] -> [..., n].");
    module.def(
        "rotary",
        [](const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
           bool interleaved) { return rotary(x, positions, cosines, sines, {interleaved}); },
        py::arg("x"), py::arg("positions"), py::arg("cosines"), py::arg("sines"), py::kw_only(),
        py::arg("interleaved") = false,
        "x [tokens, heads, head_dim] rotated by position; cosines, sines [positions, d / 2] f32.");
    module.def(
        "rotary_qkv",
        [](const Tensor& qkv, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
           std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim, bool interleaved) {
            return rotary_qkv(qkv, positions, cosines, sines, heads, kv_heads, head_dim,
                              {interleaved});
        },
        py::arg("qkv"), py::arg("positions"), py::arg("cosines"), py::arg("sines"), py::kw_only(),
        py::arg("heads"), py::arg("kv_heads"), py::arg("head_dim"), py::arg("interleaved") = false,
        "Queries and keys of the packed [tokens, (heads + 2 kv_heads) head_dim] rotated by "
        "position.");
}

void bind_attention(py::module_& module) {
    module.def(
        "attention",
        [](const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
           const OptionalTensor& offsets_q, const OptionalTensor& offsets_k,
           std::optional<double> scale, std::int64_t window, double dropout_probability,
           std::int64_t longest_q, std::int64_t longest_k, bool even) {
            return attention(q, k, v,
                             attention_options(causal, offsets_q, offsets_k, scale, window,
                                               dropout_probability, longest_q, longest_k, even));
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::kw_only(), py::arg("causal") = true,
        py::arg("offsets_q") = py::none(), py::arg("offsets_k") = py::none(),
        py::arg("scale") = py::none(), py::arg("window") = 0, py::arg("dropout_probability") = 0.0,
        py::arg("longest_q") = 0, py::arg("longest_k") = 0, py::arg("even") = false,
        "Attention over packed [tokens, heads, head_dim] or [batch, tokens, heads, head_dim] "
        "inputs; offsets on a CUDA device come with the longest sequence. `even`: all sequences "
        "are "
        "that long.");
    module.def(
        "attention_qkv",
        [](const Tensor& qkv, const OptionalTensor& offsets, std::int64_t heads,
           std::int64_t kv_heads, std::int64_t head_dim, bool causal, std::optional<double> scale,
           std::int64_t window, double dropout_probability, std::int64_t longest, bool even) {
            return attention_qkv(qkv, heads, kv_heads, head_dim,
                                 attention_options(causal, offsets, offsets, scale, window,
                                                   dropout_probability, longest, longest, even));
        },
        py::arg("qkv"), py::arg("offsets") = py::none(), py::kw_only(), py::arg("heads"),
        py::arg("kv_heads"), py::arg("head_dim"), py::arg("causal") = true,
        py::arg("scale") = py::none(), py::arg("window") = 0, py::arg("dropout_probability") = 0.0,
        py::arg("longest") = 0, py::arg("even") = false,
        "Self-attention on the packed [tokens, (heads + 2 kv_heads) head_dim] -> [tokens, heads "
        "head_dim].");
}

void bind_loss(py::module_& module) {
    module.def(
        "cross_entropy",
        [](const Tensor& logits, const Tensor& labels, std::int64_t ignore_index,
           double label_smoothing, double z_loss, const std::string& reduction) {
            CrossEntropyOptions options;
            options.ignore_index = ignore_index;
            options.label_smoothing = label_smoothing;
            options.z_loss = z_loss;
            options.reduction = choose("cross_entropy: reduction", reduction, kReductions);
            return cross_entropy(logits, labels, options);
        },
        py::arg("logits"), py::arg("labels"), py::kw_only(), py::arg("ignore_index") = -100,
        py::arg("label_smoothing") = 0.0, py::arg("z_loss") = 0.0, py::arg("reduction") = "mean",
        "-log softmax(logits)[label]; logits [..., classes], labels [...].");
    module.def(
        "linear_cross_entropy",
        [](const Tensor& hidden, const Tensor& weight, const Tensor& labels,
           const OptionalTensor& bias, std::int64_t ignore_index, double label_smoothing,
           double z_loss, const std::string& reduction, bool deferred) {
            CrossEntropyOptions options;
            options.ignore_index = ignore_index;
            options.label_smoothing = label_smoothing;
            options.z_loss = z_loss;
            options.reduction = choose("linear_cross_entropy: reduction", reduction, kReductions);
            const auto loss = deferred ? deferred_linear_cross_entropy : linear_cross_entropy;
            return loss(hidden, weight, labels, bias.value_or(Tensor()), options);
        },
        py::arg("hidden"), py::arg("weight"), py::arg("labels"), py::kw_only(),
        py::arg("bias") = py::none(), py::arg("ignore_index") = -100,
        py::arg("label_smoothing") = 0.0, py::arg("z_loss") = 0.0, py::arg("reduction") = "mean",
        py::arg("deferred") = false,
        "Cross-entropy of hidden @ weight.T against labels, without keeping the logits. "
        "`deferred`: computed by backward() together with its gradients, in less memory; the "
        "value is NaN until then.");
}

}  // namespace

void bind_fused(py::module_& module) {
    bind_linear(module);
    bind_attention(module);
    bind_loss(module);
    module.def(
        "recompute",
        [](const py::function& function, const py::args& inputs) -> py::object {
            std::vector<Tensor> tensors;
            for (const py::handle& input : inputs) tensors.push_back(input.cast<Tensor>());
            const std::vector<Tensor> results = recompute(python_function(function), tensors);
            if (results.size() == 1) return py::cast(results[0]);
            return py::tuple(py::cast(results));
        },
        py::arg("function"),
        "function(*tensors), keeping only its inputs; the backward pass runs it again.");
}

}  // namespace tempra::python
