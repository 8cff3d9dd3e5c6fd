// One sequence in progress. A pass over its next tokens is one list of kernel calls over buffers
// that are used again (decoder_pass.h), without a caller or a tensor made between them: a token of
// a small model takes a millisecond, most of it reading the weights once, so that the time between
// kernels counts.
#include "tempra/fused/decoder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "fused/decoder_parameters.h"
#include "fused/decoder_pass.h"
#include "tempra/autograd.h"
#include "tempra/error.h"
#include "tempra/fused/embedding.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

Decoder::Decoder(std::vector<DecoderBlock> blocks, std::int64_t capacity, DType dtype,
                 DecoderEnds ends)
    : blocks_(std::move(blocks)),
      ends_(std::move(ends)),
      prepared_(std::make_unique<PreparedDecoder>()),
      workspace_(std::make_unique<DecoderWorkspace>()),
      loop_(std::make_unique<platform::PhasedLoop>()),
      capacity_(capacity),
      dtype_(dtype) {
    TEMPRA_CHECK(ShapeError, !blocks_.empty(), "decoder: no blocks given");
    TEMPRA_CHECK(ShapeError, capacity >= 1, "decoder: capacity {} given; needs 1 or more tokens",
                 capacity);
    for (size_t i = 0; i < blocks_.size(); ++i) {
        const DecoderBlock& block = blocks_[i];
        check_decoder_block(block, i, dtype);
        TEMPRA_CHECK(ShapeError, block.down_weight.size(0) == blocks_[0].down_weight.size(0),
                     "decoder: block {} has width {}, the first {}", i, block.down_weight.size(0),
                     blocks_[0].down_weight.size(0));
        const std::int64_t head_dim = block.qkv_weights[0].size(0) / block.heads;
        caches_.push_back(
            empty({2 * block.kv_heads, capacity, head_dim}, dtype, block.output_weight.device()));
    }
    if (ends_.token_embedding.defined()) {
        check_decoder_ends(ends_, blocks_[0].down_weight.size(0), dtype);
    }
}

Decoder::~Decoder() = default;

// Room for what a pass over `tokens` tokens writes, as much as the largest block needs.
void Decoder::make_room(std::int64_t tokens) {
    DecoderWorkspace& w = *workspace_;
    const Device device = blocks_[0].output_weight.device();
    const std::int64_t parts = DecoderPass::parts_for(device, tokens);
    if (w.tokens != tokens || w.parts != parts) {
        std::int64_t width = 0, qkv = 0, mixed = 0, up = 0, hidden = 0;
        for (const DecoderBlock& block : blocks_) {
            width = std::max(width, block.down_weight.size(0));
            mixed = std::max(mixed, block.qkv_weights[0].size(0));
            qkv = std::max(qkv, block.qkv_weights[0].size(0) + 2 * block.qkv_weights[1].size(0));
            hidden = std::max(hidden, block.down_weight.size(1));
            up = std::max(up, block.down_weight.size(1) * std::ssize(block.up_weights));
        }
        const auto rows = [&](std::int64_t columns) {
            return empty({tokens, columns}, dtype_, device);
        };
        w = {};  // what another number of tokens took is given back first
        w.normed = rows(width * parts), w.middle = rows(width), w.x = rows(width);
        w.qkv = rows(qkv), w.mixed = rows(mixed), w.up = rows(up), w.hidden = rows(hidden);
        w.tokens = tokens, w.parts = parts;
    }
    // Made on the CPU; another device gets copies.
    const Tensor positions = empty({tokens}, DType::i32);
    for (std::int64_t i = 0; i < tokens; ++i) {
        positions.data_as<std::int32_t>()[i] = static_cast<std::int32_t>(length_ + i);
    }
    const auto bounds = [&](std::int64_t rows) {
        const Tensor offsets = empty({2}, DType::i32);
        offsets.data_as<std::int32_t>()[0] = 0;
        offsets.data_as<std::int32_t>()[1] = static_cast<std::int32_t>(rows);
        return to_device(offsets, device);
    };
    w.positions = to_device(positions, device);
    w.offsets_q = bounds(tokens), w.offsets_k = bounds(length_ + tokens);
}

Tensor Decoder::run(const Tensor& x) { return pass(x, {}); }

Tensor Decoder::pass(const Tensor& x, const Tensor& logits) {
    const std::int64_t width = blocks_[0].down_weight.size(0);
    TEMPRA_CHECK(ShapeError, x.dimensions() == 2 && x.size(0) >= 1 && x.size(1) == width,
                 "decoder: x has shape {}; needs [tokens, {}]", x.sizes(), width);
    TEMPRA_CHECK(DtypeError, x.dtype() == dtype_, "decoder: x has dtype {}, the cache {}",
                 x.dtype(), dtype_);
    const Device now = blocks_[0].output_weight.device();
    TEMPRA_CHECK(DeviceError, caches_[0].device() == now,
                 "decoder: the cache is on {}, the parameters are on {} now; make a new one",
                 caches_[0].device(), now);
    const std::int64_t tokens = x.size(0);
    TEMPRA_CHECK(ShapeError, tokens <= capacity_ - length_,
                 "decoder: {} tokens held and {} to add exceed the {} there is room for", length_,
                 tokens, capacity_);
    for (const DecoderBlock& block : blocks_) {
        TEMPRA_CHECK(ShapeError,
                     !block.cosines.defined() || length_ + tokens <= block.cosines.size(0),
                     "decoder: position {} is outside the rotary tables' {}", length_ + tokens - 1,
                     block.cosines.size(0));
    }
    const GradModeGuard off(false);
    prepare_decoder(blocks_, ends_, dtype_, *prepared_);
    make_room(tokens);
    const Tensor result = empty({tokens, width}, dtype_, x.device());
    const Tensor first = contiguous(x).detach();
    DecoderPass(blocks_, *prepared_, caches_, *workspace_, length_, first, result, logits)
        .run(*loop_);
    length_ += tokens;
    return result;
}

Tensor Decoder::next_logits(const Tensor& tokens) {
    TEMPRA_CHECK(ShapeError, ends_.token_embedding.defined(),
                 "decoder: made without embedding and head; only run() works");
    TEMPRA_CHECK(ShapeError, tokens.dimensions() == 1 && tokens.size(0) >= 1,
                 "decoder: tokens have shape {}; needs [tokens]", tokens.sizes());
    const GradModeGuard off(false);
    const std::int64_t count = tokens.size(0);
    const Device device = ends_.token_embedding.device();
    Tensor x = embedding(ends_.token_embedding, to_device(tokens, device), dtype_);
    if (ends_.position_embedding.defined()) {
        const Tensor positions =
            arange(static_cast<double>(length_), static_cast<double>(length_ + count), 1,
                   DType::i32, device);
        x = add(x, embedding(ends_.position_embedding, positions, dtype_));
    }
    const DType wide = dtype_ == DType::f64 ? DType::f64 : DType::f32;
    const Tensor logits = empty({1, ends_.head_weight.size(0)}, wide, x.device());
    static_cast<void>(pass(x, logits));
    return select(logits, 0, 0);
}

}  // namespace tempra
