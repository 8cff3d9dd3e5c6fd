// A block's kernels one after the other, over buffers that are used again, without a caller or a
// tensor made between them: a token of a small model takes a millisecond, most of it reading the
// weights once, so that the time between kernels counts.
//
//   qkv = norm(x) Wqkv^T;  q and k turned;  k, v into the cache;  y = x + attention(q) Wo^T
//   y + down(swiglu(up(norm(y))))   or   y + down(activation(up(norm(y))))
#include "tempra/fused/decoder.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "dispatch/launch.h"
#include "fused/decoder_parameters.h"
#include "fused/parameter_access.h"
#include "tempra/autograd.h"
#include "tempra/error.h"
#include "tempra/fused/embedding.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

// `heads` heads of a matrix's rows, from column `first` on.
TensorView heads_of(const TensorView& rows, std::int64_t first, std::int64_t heads,
                    std::int64_t head_dim) {
    TensorView view = rows;
    view.data = rows.as<char>() + first * size_of(rows.dtype);
    view.dimensions = 3;
    view.sizes[1] = heads, view.strides[1] = head_dim;
    view.sizes[2] = head_dim, view.strides[2] = 1;
    return view;
}

// `count` of a view's elements along `dimension`, from `first` on.
TensorView part_of(TensorView view, int dimension, std::int64_t first, std::int64_t count) {
    view.data = view.as<char>() + first * view.strides[dimension] * size_of(view.dtype);
    view.sizes[dimension] = count;
    return view;
}

// The first `rows` x `columns` elements of a buffer as a matrix.
TensorView matrix_in(const Tensor& buffer, std::int64_t rows, std::int64_t columns) {
    TensorView view = buffer.view();
    view.dimensions = 2;
    view.sizes[0] = rows, view.strides[0] = columns;
    view.sizes[1] = columns, view.strides[1] = 1;
    return view;
}

void normalise(const DecoderNorm& norm, const Tensor& x, const Tensor& out) {
    if (norm.rms) {
        launch("rms_norm", x, &KernelTable::rms_norm, x.view(), norm.weight.view(), norm.epsilon,
               out.view(), TensorView{});
    } else {
        launch("layer_norm", x, &KernelTable::layer_norm, x.view(), norm.weight.view(),
               norm.bias.view(), norm.epsilon, out.view(), TensorView{}, TensorView{});
    }
}

// out = activation(a weight^T + bias) + residual, the products' columns one after the other; the
// kernels are those for `chooser`.
void multiply(const std::vector<DecoderProduct>& products, const Tensor& chooser,
              const TensorView& a, Activation activation, const TensorView& residual,
              const TensorView& out) {
    std::int64_t column = 0;
    for (const DecoderProduct& product : products) {
        const std::int64_t columns = product.weight.size(0);
        GemmArguments arguments;
        arguments.a = a;
        arguments.b = transposed(product.weight);
        arguments.c = part_of(out, 1, column, columns);
        arguments.bias = product.bias.view();
        arguments.residual = residual;
        arguments.activation = activation;
        launch("linear", chooser, &KernelTable::gemm, arguments);
        column += columns;
    }
}

}  // namespace

Decoder::Decoder(std::vector<DecoderBlock> blocks, std::int64_t capacity, DType dtype,
                 DecoderEnds ends)
    : blocks_(std::move(blocks)),
      ends_(std::move(ends)),
      prepared_(std::make_unique<PreparedDecoder>()),
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
    Workspace& w = workspace_;
    const Device device = blocks_[0].output_weight.device();
    if (w.tokens != tokens) {
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
        w.normed = rows(width), w.middle = rows(width), w.x = rows(width);
        w.qkv = rows(qkv), w.mixed = rows(mixed), w.up = rows(up), w.hidden = rows(hidden);
        w.tokens = tokens;
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

// middle = x + attention(norm(x)), keys and values of x appended.
void Decoder::attend(size_t index, const Tensor& x) const {
    const Workspace& w = workspace_;
    const PreparedBlock& parameters = prepared_->blocks[index];
    const std::int64_t heads = blocks_[index].heads, kv_heads = blocks_[index].kv_heads;
    const std::int64_t head_dim = caches_[index].size(2);
    const std::int64_t columns = (heads + 2 * kv_heads) * head_dim;
    const TensorView qkv = matrix_in(w.qkv, w.tokens, columns);
    const TensorView mixed = matrix_in(w.mixed, w.tokens, heads * head_dim);
    normalise(parameters.attention_norm, x, w.normed);
    multiply(parameters.qkv, x, w.normed.view(), Activation::none, {}, qkv);
    if (parameters.cosines.defined()) {
        const TensorView turning = heads_of(qkv, 0, heads + kv_heads, head_dim);
        const KernelStatus status = launch_status(
            "rotary", x.device(), dtype_, &KernelTable::rotary, turning, w.positions.view(),
            parameters.cosines.view(), parameters.sines.view(), 0, 0, turning);
        TEMPRA_CHECK(ShapeError, status != kKernelIndexOutOfRange,
                     "decoder: position {} is outside the rotary tables' {}",
                     length_ + w.tokens - 1, parameters.cosines.size(0));
        check_status(status, "rotary", dtype_, x.device());
    }
    // Of one head, token after token: attention reads each head's keys and values in order.
    TensorView cache = caches_[index].view();
    std::swap(cache.sizes[0], cache.sizes[1]), std::swap(cache.strides[0], cache.strides[1]);
    launch("copy", x, &KernelTable::copy, heads_of(qkv, heads * head_dim, 2 * kv_heads, head_dim),
           part_of(cache, 0, length_, w.tokens));
    const TensorView held = part_of(cache, 0, 0, length_ + w.tokens);
    AttentionArguments arguments;
    arguments.q = heads_of(qkv, 0, heads, head_dim);
    arguments.k = part_of(held, 1, 0, kv_heads);
    arguments.v = part_of(held, 1, kv_heads, kv_heads);
    arguments.out = heads_of(mixed, 0, heads, head_dim);
    arguments.offsets_q = w.offsets_q.view(), arguments.offsets_k = w.offsets_k.view();
    arguments.scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    arguments.max_query_length = w.tokens, arguments.max_key_length = length_ + w.tokens;
    launch("attention", x, &KernelTable::attention, arguments);
    multiply(parameters.output, x, mixed, Activation::none, x.view(), w.middle.view());
}

// result = middle + feed_forward(norm(middle))
void Decoder::feed_forward(size_t index, const Tensor& result) const {
    const Workspace& w = workspace_;
    const PreparedBlock& parameters = prepared_->blocks[index];
    const std::int64_t inner = blocks_[index].down_weight.size(1);
    const bool gated = blocks_[index].up_weights.size() == 2;
    const TensorView hidden = matrix_in(w.hidden, w.tokens, inner);
    normalise(parameters.feed_forward_norm, w.middle, w.normed);
    if (gated) {
        const TensorView gate_up = matrix_in(w.up, w.tokens, 2 * inner);
        multiply(parameters.up, w.middle, w.normed.view(), Activation::none, {}, gate_up);
        launch("swiglu", w.middle, &KernelTable::swiglu, part_of(gate_up, 1, 0, inner),
               part_of(gate_up, 1, inner, inner), hidden);
    } else {
        multiply(parameters.up, w.middle, w.normed.view(), blocks_[index].activation, {}, hidden);
    }
    multiply(parameters.down, w.middle, hidden, Activation::none, w.middle.view(), result.view());
}

Tensor Decoder::run(const Tensor& x) {
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
    const GradModeGuard off(false);
    prepare_decoder(blocks_, ends_, dtype_, *prepared_);
    make_room(tokens);
    const Tensor result = empty({tokens, width}, dtype_, x.device());
    const Tensor first = contiguous(x).detach();
    for (size_t i = 0; i < blocks_.size(); ++i) {
        attend(i, i == 0 ? first : workspace_.x);
        feed_forward(i, i + 1 == blocks_.size() ? result : workspace_.x);
    }
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
    const Tensor last = narrow(run(x), 0, count - 1, 1);
    const Tensor normed = empty(last.sizes(), dtype_, x.device());
    normalise(prepared_->norm, last, normed);
    const DType wide = dtype_ == DType::f64 ? DType::f64 : DType::f32;
    const Tensor logits = empty({1, ends_.head_weight.size(0)}, wide, x.device());
    multiply(prepared_->head, normed, normed.view(), Activation::none, {}, logits.view());
    return select(logits, 0, 0);
}

}  // namespace tempra
