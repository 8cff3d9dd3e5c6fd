// The operations of a transformer block one after the other, without a caller between them: a token
// of a small model takes a millisecond, so that the time between operations counts.
#include "tempra/fused/decoder.h"

#include <utility>

#include "tempra/autograd.h"
#include "tempra/error.h"
#include "tempra/fused/attention.h"
#include "tempra/fused/linear.h"
#include "tempra/fused/rotary.h"
#include "tempra/fused/swiglu.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/normalization.h"

namespace tempra {

namespace {

Tensor normalised(const DecoderNorm& norm, const Tensor& x) {
    if (norm.rms) return rms_norm(x, norm.weight, norm.epsilon);
    return layer_norm(x, norm.weight, norm.bias, norm.epsilon);
}

Tensor feed_forward(const DecoderBlock& block, const Tensor& x) {
    const Tensor normed = normalised(block.feed_forward_norm, x);
    Tensor hidden;
    if (block.up_weights.size() == 2) {
        hidden = swiglu_packed(linear_group(normed, block.up_weights, block.up_biases));
    } else {
        const Tensor bias = block.up_biases.empty() ? Tensor() : block.up_biases[0];
        hidden = linear(normed, block.up_weights[0], bias, {block.activation, {}});
    }
    return linear(hidden, block.down_weight, block.down_bias, {Activation::none, x});
}

void check_block(const DecoderBlock& block, size_t index) {
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
}

Tensor numbers_from(std::int64_t first, std::int64_t count, Device device) {
    if (device.type != DeviceType::cpu) {
        const auto start = static_cast<double>(first);
        return arange(start, start + static_cast<double>(count), 1, DType::i32, device);
    }
    const Tensor result = empty({count}, DType::i32);
    auto* values = result.data_as<std::int32_t>();
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<std::int32_t>(first + i);
    return result;
}

}  // namespace

Decoder::Decoder(std::vector<DecoderBlock> blocks, std::int64_t capacity, DType dtype)
    : blocks_(std::move(blocks)), capacity_(capacity), dtype_(dtype) {
    TEMPRA_CHECK(ShapeError, !blocks_.empty(), "decoder: no blocks given");
    TEMPRA_CHECK(ShapeError, capacity >= 1, "decoder: capacity {} given; needs 1 or more tokens",
                 capacity);
    for (size_t i = 0; i < blocks_.size(); ++i) {
        const DecoderBlock& block = blocks_[i];
        check_block(block, i);
        const Shape sizes{capacity, block.kv_heads, block.qkv_weights[0].size(0) / block.heads};
        const Device device = block.output_weight.device();
        caches_.push_back({empty(sizes, dtype, device), empty(sizes, dtype, device)});
    }
}

// x + attention(norm(x)), keys and values of x appended.
Tensor Decoder::attend(const DecoderBlock& block, const Cache& cache, const Tensor& x,
                       const Tensor& positions) const {
    const std::int64_t tokens = x.size(0), head_dim = cache.keys.size(2);
    const Tensor qkv =
        linear_group(normalised(block.attention_norm, x), block.qkv_weights, block.qkv_biases);
    const Tensor all = reshape(qkv, {tokens, block.heads + 2 * block.kv_heads, head_dim});
    Tensor q = narrow(all, 1, 0, block.heads);
    Tensor k = narrow(all, 1, block.heads, block.kv_heads);
    const Tensor v = narrow(all, 1, block.heads + block.kv_heads, block.kv_heads);
    if (block.cosines.defined()) {
        q = rotary(q, positions, block.cosines, block.sines);
        k = rotary(k, positions, block.cosines, block.sines);
    }
    copy_(narrow(cache.keys, 0, length_, tokens), k);
    copy_(narrow(cache.values, 0, length_, tokens), v);
    const Tensor mixed = attention(q, narrow(cache.keys, 0, 0, length_ + tokens),
                                   narrow(cache.values, 0, 0, length_ + tokens));
    return linear(reshape(mixed, {tokens, block.heads * head_dim}), block.output_weight,
                  block.output_bias, {Activation::none, x});
}

Tensor Decoder::run(const Tensor& x) {
    TEMPRA_CHECK(ShapeError, x.dimensions() == 2 && x.size(0) >= 1,
                 "decoder: x has shape {}; needs [tokens, width]", x.sizes());
    TEMPRA_CHECK(DtypeError, x.dtype() == dtype_, "decoder: x has dtype {}, the cache {}",
                 x.dtype(), dtype_);
    const std::int64_t tokens = x.size(0);
    TEMPRA_CHECK(ShapeError, tokens <= capacity_ - length_,
                 "decoder: {} tokens held and {} to add exceed the {} there is room for", length_,
                 tokens, capacity_);
    const GradModeGuard off(false);
    const Tensor positions = numbers_from(length_, tokens, x.device());
    Tensor y = x;
    for (size_t i = 0; i < blocks_.size(); ++i) {
        y = feed_forward(blocks_[i], attend(blocks_[i], caches_[i], y, positions));
    }
    length_ += tokens;
    return y;
}

}  // namespace tempra
