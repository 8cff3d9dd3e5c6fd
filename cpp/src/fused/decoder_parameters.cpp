// Checks of a block's parameters, and the form in which kernels take them.
#include "fused/decoder_parameters.h"

#include <string>
#include <utility>

#include "fused/parameter_access.h"
#include "tempra/error.h"
#include "tempra/ops/layout.h"
#include "tensor/half_dtypes.h"

namespace tempra {

namespace {

// Weights that lie side by side become one product, others one each: a copy would cost their bytes.
std::vector<DecoderProduct> prepared_products(const std::vector<Tensor>& weights,
                                              const std::vector<Tensor>& biases, DType dtype) {
    std::vector<Tensor> matrices;
    for (const Tensor& weight : weights) matrices.push_back(parameter_for(weight, dtype));
    if (lie_side_by_side(matrices)) {
        return {{joined(matrices), biases.empty() ? Tensor() : contiguous(joined(biases))}};
    }
    std::vector<DecoderProduct> products;
    for (size_t i = 0; i < matrices.size(); ++i) {
        products.push_back(
            {contiguous(matrices[i]), biases.empty() ? Tensor() : contiguous(biases[i])});
    }
    return products;
}

std::vector<Tensor> present(const Tensor& tensor) {
    return tensor.defined() ? std::vector<Tensor>{tensor} : std::vector<Tensor>{};
}

// Weight and bias share one dtype, as the norms' kernels need it.
DecoderNorm prepared_norm(const DecoderNorm& norm, DType dtype) {
    const bool same =
        norm.weight.dtype() == dtype && (!norm.bias.defined() || norm.bias.dtype() == dtype);
    const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    DecoderNorm result = norm;
    result.weight = contiguous(cast(norm.weight, same ? dtype : wide)).detach();
    if (norm.bias.defined()) {
        result.bias = contiguous(cast(norm.bias, same ? dtype : wide)).detach();
    }
    return result;
}

template <class Visit>
void for_each_parameter(const DecoderBlock& block, const Visit& visit) {
    for (const DecoderNorm* norm : {&block.attention_norm, &block.feed_forward_norm}) {
        visit(norm->weight), visit(norm->bias);
    }
    for (const auto* list :
         {&block.qkv_weights, &block.qkv_biases, &block.up_weights, &block.up_biases}) {
        for (const Tensor& parameter : *list) visit(parameter);
    }
    visit(block.output_weight), visit(block.output_bias);
    visit(block.down_weight), visit(block.down_bias);
    visit(block.cosines), visit(block.sines);
}

std::int64_t rows_of(const std::vector<Tensor>& weights) {
    std::int64_t rows = 0;
    for (const Tensor& weight : weights) rows += weight.size(0);
    return rows;
}

void check_parameter(const std::string& owner, const char* name, const Tensor& given,
                     const Shape& sizes) {
    TEMPRA_CHECK(ShapeError, given.defined() && given.sizes() == sizes,
                 "decoder: {} has {} of shape {}; needs {}", owner, name,
                 given.defined() ? given.sizes() : Shape{}, sizes);
    TEMPRA_CHECK(DtypeError, is_floating(given.dtype()),
                 "decoder: {} has {} of dtype {}; needs a floating dtype", owner, name,
                 given.dtype());
}

void check_norm(const std::string& owner, const DecoderNorm& norm, std::int64_t width) {
    check_parameter(owner, "a norm's weight", norm.weight, {width});
    if (norm.bias.defined()) check_parameter(owner, "a norm's bias", norm.bias, {width});
}

// Weights [out, in] of `columns` columns and, where there are biases, one [out] for each.
void check_products(const std::string& owner, const char* name, const std::vector<Tensor>& weights,
                    const std::vector<Tensor>& biases, std::int64_t columns, DType dtype) {
    TEMPRA_CHECK(ShapeError, biases.empty() || biases.size() == weights.size(),
                 "decoder: {} has {} biases for {} {}", owner, biases.size(), weights.size(), name);
    for (size_t i = 0; i < weights.size(); ++i) {
        check_parameter(owner, name, weights[i], {weights[i].size(0), columns});
        const DType given = weights[i].dtype();
        TEMPRA_CHECK(DtypeError, given == dtype || (is_half(dtype) && given == DType::f32),
                     "decoder: {} has {} of dtype {} for activations of {}; they must be equal, or "
                     "bf16 or f16 with f32 weights",
                     owner, name, given, dtype);
        if (biases.empty()) continue;
        check_parameter(owner, "a bias", biases[i], {weights[i].size(0)});
        TEMPRA_CHECK(DtypeError, biases[i].dtype() == dtype || biases[i].dtype() == DType::f32,
                     "decoder: {} has a bias of dtype {} for activations of {}; needs that dtype, "
                     "or f32",
                     owner, biases[i].dtype(), dtype);
    }
}

void check_heads(const DecoderBlock& block, size_t index) {
    TEMPRA_CHECK(ShapeError,
                 block.kv_heads > 0 && block.heads > 0 && block.heads % block.kv_heads == 0,
                 "decoder: block {} has {} heads and {} kv_heads; heads must be a multiple", index,
                 block.heads, block.kv_heads);
    TEMPRA_CHECK(ShapeError, block.qkv_weights.size() == 3,
                 "decoder: block {} has {} attention weights; needs q, k and v", index,
                 block.qkv_weights.size());
    TEMPRA_CHECK(ShapeError, block.up_weights.size() == 1 || block.up_weights.size() == 2,
                 "decoder: block {} has {} weights before the activation; needs up, or gate and up",
                 index, block.up_weights.size());
    for (const Tensor& weight : block.qkv_weights) {
        TEMPRA_CHECK(ShapeError, weight.dimensions() == 2,
                     "decoder: block {} has an attention weight of shape {}; needs [out, in]",
                     index, weight.sizes());
    }
    const std::int64_t queries = block.qkv_weights[0].size(0);
    const std::int64_t keys = block.qkv_weights[1].size(0);
    TEMPRA_CHECK(ShapeError,
                 queries % block.heads == 0 && keys == queries / block.heads * block.kv_heads &&
                     block.qkv_weights[2].size(0) == keys,
                 "decoder: block {} has q, k, v of {}, {}, {} rows; {} heads and {} kv_heads need "
                 "the same rows per head",
                 index, queries, keys, block.qkv_weights[2].size(0), block.heads, block.kv_heads);
    TEMPRA_CHECK(ShapeError, block.cosines.defined() == block.sines.defined(),
                 "decoder: block {} has only one of cosines and sines", index);
    if (!block.cosines.defined()) return;
    TEMPRA_CHECK(ShapeError,
                 block.cosines.dimensions() == 2 && block.cosines.sizes() == block.sines.sizes() &&
                     2 * block.cosines.size(1) <= queries / block.heads,
                 "decoder: block {} has cosines of shape {}, sines {}; needs [positions, at most "
                 "{}] each",
                 index, block.cosines.sizes(), block.sines.sizes(), queries / block.heads / 2);
    TEMPRA_CHECK(DtypeError,
                 block.cosines.dtype() == DType::f32 && block.sines.dtype() == DType::f32,
                 "decoder: block {} has cosines of dtype {}, sines {}; needs f32", index,
                 block.cosines.dtype(), block.sines.dtype());
}

PreparedBlock prepared_block(const DecoderBlock& block, DType dtype) {
    PreparedBlock prepared;
    prepared.attention_norm = prepared_norm(block.attention_norm, dtype);
    prepared.feed_forward_norm = prepared_norm(block.feed_forward_norm, dtype);
    prepared.qkv = prepared_products(block.qkv_weights, block.qkv_biases, dtype);
    prepared.output = prepared_products({block.output_weight}, present(block.output_bias), dtype);
    prepared.up = prepared_products(block.up_weights, block.up_biases, dtype);
    prepared.down = prepared_products({block.down_weight}, present(block.down_bias), dtype);
    if (block.cosines.defined()) {
        prepared.cosines = contiguous(block.cosines);
        prepared.sines = contiguous(block.sines);
    }
    return prepared;
}

}  // namespace

void check_decoder_block(const DecoderBlock& block, size_t index, DType dtype) {
    check_heads(block, index);
    const std::int64_t width = block.qkv_weights[0].size(1);
    const std::int64_t inner = block.up_weights[0].defined() ? block.up_weights[0].size(0) : 0;
    const std::string owner = format("block {}", index);
    check_norm(owner, block.attention_norm, width);
    check_norm(owner, block.feed_forward_norm, width);
    check_products(owner, "attention weights", block.qkv_weights, block.qkv_biases, width, dtype);
    check_products(owner, "output weight", {block.output_weight}, present(block.output_bias),
                   block.qkv_weights[0].size(0), dtype);
    check_products(owner, "up weights", block.up_weights, block.up_biases, width, dtype);
    check_products(owner, "down weight", {block.down_weight}, present(block.down_bias), inner,
                   dtype);
    TEMPRA_CHECK(
        ShapeError,
        block.output_weight.size(0) == width && block.down_weight.size(0) == width &&
            rows_of(block.up_weights) == inner * static_cast<std::int64_t>(block.up_weights.size()),
        "decoder: block {} has output, up and down weights of {}, {} and {} rows; width "
        "{} and {} rows of up do not fit them",
        index, block.output_weight.size(0), rows_of(block.up_weights), block.down_weight.size(0),
        width, inner);
}

void check_decoder_ends(const DecoderEnds& ends, std::int64_t width, DType dtype) {
    const std::string owner = "the model";
    check_products(owner, "a token embedding", {ends.token_embedding}, {}, width, dtype);
    check_products(owner, "a position embedding", present(ends.position_embedding), {}, width,
                   dtype);
    check_norm(owner, ends.norm, width);
    check_products(owner, "a head", {ends.head_weight}, {}, width, dtype);
}

void prepare_decoder(const std::vector<DecoderBlock>& blocks, const DecoderEnds& ends, DType dtype,
                     PreparedDecoder& prepared) {
    std::vector<std::uint64_t> states;
    states.reserve(prepared.made_from.size());
    const auto note = [&](const Tensor& parameter) {
        if (!parameter.defined()) return;
        states.push_back(reinterpret_cast<std::uintptr_t>(parameter.data()));
        states.push_back(parameter.version());
    };
    for (const DecoderBlock& block : blocks) for_each_parameter(block, note);
    note(ends.norm.weight), note(ends.norm.bias), note(ends.head_weight);
    if (states == prepared.made_from) return;
    prepared.blocks.clear();
    for (const DecoderBlock& block : blocks) {
        prepared.blocks.push_back(prepared_block(block, dtype));
    }
    if (ends.head_weight.defined()) {
        prepared.norm = prepared_norm(ends.norm, dtype);
        prepared.head = prepared_products({ends.head_weight}, {}, dtype);
    }
    prepared.made_from = std::move(states);
}

}  // namespace tempra
