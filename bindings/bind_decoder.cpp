// Decoding with a key/value cache.
#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "bindings.h"
#include "tempra/fused/decoder.h"
#include "tempra/ops/creation.h"

namespace tempra::python {

namespace {

using OptionalTensor = std::optional<Tensor>;
using OptionalPair = std::optional<std::pair<Tensor, Tensor>>;

Activation activation_of(const std::string& name) {
    if (name == "none") return Activation::none;
    if (name == "relu") return Activation::relu;
    if (name == "silu") return Activation::silu;
    if (name == "gelu") return Activation::gelu;
    if (name == "gelu_tanh") return Activation::gelu_tanh;
    throw ConfigError(
        format("decoder: activation='{}' given; choose one of none, relu, silu, "
               "gelu, gelu_tanh",
               name));
}

DecoderNorm norm_of(const Tensor& weight, const OptionalTensor& bias, double epsilon, bool rms) {
    return {rms, weight, bias.value_or(Tensor()), epsilon};
}

DecoderBlock block_of(std::int64_t heads, std::int64_t kv_heads, const DecoderNorm& attention_norm,
                      const DecoderNorm& feed_forward_norm, std::vector<Tensor> qkv_weights,
                      std::vector<Tensor> qkv_biases, const Tensor& output_weight,
                      const OptionalTensor& output_bias, const OptionalPair& rotary,
                      std::vector<Tensor> up_weights, std::vector<Tensor> up_biases,
                      const std::string& activation, const Tensor& down_weight,
                      const OptionalTensor& down_bias) {
    DecoderBlock block;
    block.heads = heads, block.kv_heads = kv_heads;
    block.attention_norm = attention_norm, block.feed_forward_norm = feed_forward_norm;
    block.qkv_weights = std::move(qkv_weights), block.qkv_biases = std::move(qkv_biases);
    block.output_weight = output_weight, block.output_bias = output_bias.value_or(Tensor());
    if (rotary) std::tie(block.cosines, block.sines) = *rotary;
    block.up_weights = std::move(up_weights), block.up_biases = std::move(up_biases);
    block.activation = activation_of(activation);
    block.down_weight = down_weight, block.down_bias = down_bias.value_or(Tensor());
    return block;
}

DecoderEnds ends_of(const Tensor& token_embedding, const OptionalTensor& position_embedding,
                    const DecoderNorm& norm, const Tensor& head_weight) {
    return {token_embedding, position_embedding.value_or(Tensor()), norm, head_weight};
}

Tensor next_logits(Decoder& decoder, const std::vector<std::int32_t>& tokens) {
    const Tensor ids = empty({std::ssize(tokens)}, DType::i32);
    std::copy(tokens.begin(), tokens.end(), ids.data_as<std::int32_t>());
    return decoder.next_logits(ids);
}

}  // namespace

void bind_decoder(py::module_& module) {
    py::class_<DecoderNorm>(module, "DecoderNorm", "A normalisation as a decoder runs it.")
        .def(py::init(&norm_of), py::arg("weight"), py::arg("bias") = py::none(), py::kw_only(),
             py::arg("epsilon"), py::arg("rms"));
    py::class_<DecoderBlock>(module, "DecoderBlock",
                             "A transformer block's parameters as a decoder reads them.")
        .def(py::init(&block_of), py::kw_only(), py::arg("heads"), py::arg("kv_heads"),
             py::arg("attention_norm"), py::arg("feed_forward_norm"), py::arg("qkv_weights"),
             py::arg("qkv_biases"), py::arg("output_weight"), py::arg("output_bias"),
             py::arg("rotary"), py::arg("up_weights"), py::arg("up_biases"), py::arg("activation"),
             py::arg("down_weight"), py::arg("down_bias"));
    py::class_<DecoderEnds>(module, "DecoderEnds",
                            "A transformer's parameters before and after its blocks.")
        .def(py::init(&ends_of), py::kw_only(), py::arg("token_embedding"),
             py::arg("position_embedding"), py::arg("norm"), py::arg("head_weight"));
    py::class_<Decoder>(module, "Decoder", "One sequence in progress: blocks and what they keep.")
        .def(py::init<std::vector<DecoderBlock>, std::int64_t, DType, DecoderEnds>(),
             py::arg("blocks"), py::arg("capacity"), py::arg("dtype"), py::arg("ends"))
        .def("run", &Decoder::run, py::arg("x"), ReleaseGil(),
             "Read further tokens: [tokens, width] -> [tokens, width].")
        .def("next_logits", &next_logits, py::arg("tokens"), ReleaseGil(),
             "Read further tokens; logits [vocabulary] after the last, in f32.")
        .def("clear", &Decoder::clear, "Forget all tokens; the memory is kept.")
        .def_property_readonly("length", &Decoder::length)
        .def_property_readonly("capacity", &Decoder::capacity);
}

}  // namespace tempra::python
