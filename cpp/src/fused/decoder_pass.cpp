#include "fused/decoder_pass.h"

#include <algorithm>
#include <cmath>

#include "dispatch/launch.h"
#include "fused/parameter_access.h"
#include "tempra/threads.h"

namespace tempra {

namespace {

enum Phase { kQkv, kAttention, kOutput, kUp, kDown, kPhases };

// Up to so many tokens a product waits for its weights (the kernel streams them).
constexpr std::int64_t kStreamedTokens = 8;
// Up to so many keys a head's attention takes less time than its division among threads.
constexpr std::int64_t kShortKeys = 256;
// Parts of a row begin at whole cache lines.
constexpr std::int64_t kColumnStep = 32;

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

// [a, b, c] -> [a, groups, b / groups, c]
TensorView in_groups(const TensorView& view, std::int64_t groups) {
    TensorView result = view;
    result.dimensions = 4;
    result.sizes[3] = view.sizes[2], result.strides[3] = view.strides[2];
    result.sizes[2] = view.sizes[1] / groups, result.strides[2] = view.strides[1];
    result.sizes[1] = groups, result.strides[1] = view.strides[1] * result.sizes[2];
    return result;
}

// Rows [row, row + rows) of a buffer taken for a matrix of `columns` columns.
TensorView matrix_in(const Tensor& buffer, std::int64_t row, std::int64_t rows,
                     std::int64_t columns) {
    TensorView view = buffer.view();
    view.data = view.as<char>() + row * columns * size_of(view.dtype);
    view.dimensions = 2;
    view.sizes[0] = rows, view.strides[0] = columns;
    view.sizes[1] = columns, view.strides[1] = 1;
    return view;
}

}  // namespace

DecoderPass::DecoderPass(const std::vector<DecoderBlock>& blocks, const PreparedDecoder& prepared,
                         const std::vector<Tensor>& caches, const DecoderWorkspace& workspace,
                         std::int64_t length, const Tensor& x, const Tensor& result,
                         const Tensor& logits)
    : blocks_(blocks),
      prepared_(prepared),
      caches_(caches),
      workspace_(workspace),
      length_(length),
      x_(x.view()),
      result_(result.view()),
      logits_(logits.defined() ? logits.view() : TensorView{}),
      device_(x.device()),
      dtype_(x.dtype()) {}

std::int64_t DecoderPass::parts_for(const Device& device, std::int64_t tokens) {
    return device.type == DeviceType::cpu && tokens <= kStreamedTokens ? num_threads() : 1;
}

void DecoderPass::run(platform::PhasedLoop& loop) const {
    std::vector<std::int64_t> parts(blocks_.size() * kPhases, workspace_.parts);
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
        parts[block * kPhases + kAttention] = attention_parts(block);
    }
    // One row, however many tokens there were.
    if (logits_.present()) parts.push_back(workspace_.parts);
    loop.run(parts, [this](std::int64_t phase, std::int64_t part) { run_part(phase, part); });
}

void DecoderPass::run_part(std::int64_t phase, std::int64_t part) const {
    const auto block = static_cast<std::size_t>(phase / kPhases);
    if (block == blocks_.size()) return head(part);
    switch (phase % kPhases) {
        case kQkv: return qkv(block, part);
        case kAttention: return attention(block, part);
        case kOutput: return output(block, part);
        case kUp: return up(block, part);
        default: return down(block, part);
    }
}

// By key heads, unless that would leave threads without work for long.
std::int64_t DecoderPass::attention_parts(std::size_t block) const {
    const std::int64_t kv_heads = blocks_[block].kv_heads, parts = workspace_.parts;
    if (kv_heads % parts == 0) return parts;
    return length_ + workspace_.tokens <= kShortKeys ? std::min(kv_heads, parts) : 1;
}

DecoderPass::Range DecoderPass::columns_of(std::int64_t part, std::int64_t columns) const {
    const std::int64_t parts = workspace_.parts;
    const std::int64_t even = (columns + parts - 1) / parts;
    const std::int64_t width =
        parts == 1 ? columns : (even + kColumnStep - 1) / kColumnStep * kColumnStep;
    return {std::min(columns, part * width), std::min(columns, (part + 1) * width)};
}

TensorView DecoderPass::x_of(std::size_t block) const {
    return block == 0 ? x_ : matrix_in(workspace_.x, 0, workspace_.tokens, x_.sizes[1]);
}

TensorView DecoderPass::qkv_of(std::size_t block) const {
    const DecoderBlock& b = blocks_[block];
    const std::int64_t columns = (b.heads + 2 * b.kv_heads) * caches_[block].size(2);
    return matrix_in(workspace_.qkv, 0, workspace_.tokens, columns);
}

TensorView DecoderPass::mixed_of(std::size_t block) const {
    const std::int64_t columns = blocks_[block].heads * caches_[block].size(2);
    return matrix_in(workspace_.mixed, 0, workspace_.tokens, columns);
}

template <class Kernel, class... Arguments>
void DecoderPass::call(const char* operation, Kernel KernelTable::*kernel,
                       const Arguments&... arguments) const {
    check_status(launch_status(operation, device_, dtype_, kernel, arguments...), operation, dtype_,
                 device_);
}

// norm(x) in the part's own buffer.
TensorView DecoderPass::normalised(const DecoderNorm& norm, const TensorView& x,
                                   std::int64_t part) const {
    const std::int64_t rows = x.sizes[0];
    const TensorView out = matrix_in(workspace_.normed, part * workspace_.tokens, rows, x.sizes[1]);
    if (norm.rms) {
        call("rms_norm", &KernelTable::rms_norm, x, norm.weight.view(), norm.epsilon, out,
             TensorView{});
    } else {
        call("layer_norm", &KernelTable::layer_norm, x, norm.weight.view(), norm.bias.view(),
             norm.epsilon, out, TensorView{}, TensorView{});
    }
    return out;
}

// Columns `wanted` of activation(a weight^T + bias) + residual, where the product's weights give
// columns one after the other; `out` has these columns alone, `residual` all.
void DecoderPass::multiply(const Product& product, const TensorView& a, Activation activation,
                           const TensorView& residual, const TensorView& out, Range wanted) const {
    std::int64_t column = 0;  // the first of this matrix
    for (const DecoderProduct& each : product) {
        const std::int64_t rows = each.weight.size(0);
        const std::int64_t begin = std::max(wanted.begin, column);
        const std::int64_t end = std::min(wanted.end, column + rows);
        if (begin < end) {
            GemmArguments arguments;
            arguments.a = a;
            arguments.b = part_of(transposed(each.weight), 1, begin - column, end - begin);
            arguments.c = part_of(out, 1, begin - wanted.begin, end - begin);
            if (each.bias.defined()) {
                arguments.bias = part_of(each.bias.view(), 0, begin - column, end - begin);
            }
            if (residual.present()) {
                arguments.residual = part_of(residual, 1, begin, end - begin);
            }
            arguments.activation = activation;
            call("linear", &KernelTable::gemm, arguments);
        }
        column += rows;
    }
}

void DecoderPass::qkv(std::size_t block, std::int64_t part) const {
    const TensorView out = qkv_of(block);
    const Range columns = columns_of(part, out.sizes[1]);
    if (columns.begin == columns.end) return;
    const PreparedBlock& parameters = prepared_.blocks[block];
    multiply(parameters.qkv, normalised(parameters.attention_norm, x_of(block), part),
             Activation::none, {}, part_of(out, 1, columns.begin, columns.end - columns.begin),
             columns);
}

void DecoderPass::attention(std::size_t block, std::int64_t part) const {
    const DecoderWorkspace& w = workspace_;
    const PreparedBlock& parameters = prepared_.blocks[block];
    const std::int64_t heads = blocks_[block].heads, kv_heads = blocks_[block].kv_heads;
    const std::int64_t head_dim = caches_[block].size(2);
    const std::int64_t parts = attention_parts(block);
    const std::int64_t first_key = part * kv_heads / parts;
    const std::int64_t keys = (part + 1) * kv_heads / parts - first_key;
    const std::int64_t first_query = first_key * (heads / kv_heads);
    const std::int64_t queries = keys * (heads / kv_heads);
    const TensorView rows = qkv_of(block);
    const TensorView q = heads_of(rows, first_query * head_dim, queries, head_dim);
    const TensorView k = heads_of(rows, (heads + first_key) * head_dim, keys, head_dim);
    if (parameters.cosines.defined()) {
        const auto turn = [&](const TensorView& turning) {
            call("rotary", &KernelTable::rotary, turning, w.positions.view(),
                 parameters.cosines.view(), parameters.sines.view(), 0, 0, turning);
        };
        if (parts == 1) {
            turn(heads_of(rows, 0, heads + kv_heads, head_dim));
        } else {
            turn(q), turn(k);
        }
    }
    // Of one head, token after token: attention reads each head's keys and values in order.
    TensorView cache = caches_[block].view();
    std::swap(cache.sizes[0], cache.sizes[1]), std::swap(cache.strides[0], cache.strides[1]);
    const TensorView fresh = heads_of(rows, heads * head_dim, 2 * kv_heads, head_dim);
    call("copy", &KernelTable::copy, part_of(in_groups(fresh, 2), 2, first_key, keys),
         part_of(in_groups(part_of(cache, 0, length_, w.tokens), 2), 2, first_key, keys));
    const TensorView held = part_of(cache, 0, 0, length_ + w.tokens);
    AttentionArguments arguments;
    arguments.q = q;
    arguments.k = part_of(held, 1, first_key, keys);
    arguments.v = part_of(held, 1, kv_heads + first_key, keys);
    arguments.out = heads_of(mixed_of(block), first_query * head_dim, queries, head_dim);
    arguments.offsets_q = w.offsets_q.view(), arguments.offsets_k = w.offsets_k.view();
    arguments.scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    arguments.max_query_length = w.tokens, arguments.max_key_length = length_ + w.tokens;
    call("attention", &KernelTable::attention, arguments);
}

void DecoderPass::output(std::size_t block, std::int64_t part) const {
    const TensorView x = x_of(block);
    const Range columns = columns_of(part, x.sizes[1]);
    if (columns.begin == columns.end) return;
    const TensorView out = matrix_in(workspace_.middle, 0, workspace_.tokens, x.sizes[1]);
    multiply(prepared_.blocks[block].output, mixed_of(block), Activation::none, x,
             part_of(out, 1, columns.begin, columns.end - columns.begin), columns);
}

void DecoderPass::up(std::size_t block, std::int64_t part) const {
    const PreparedBlock& parameters = prepared_.blocks[block];
    const std::int64_t width = x_.sizes[1], inner = blocks_[block].down_weight.size(1);
    const Range columns = columns_of(part, inner);
    const std::int64_t count = columns.end - columns.begin;
    if (count == 0) return;
    const TensorView normed =
        normalised(parameters.feed_forward_norm,
                   matrix_in(workspace_.middle, 0, workspace_.tokens, width), part);
    const TensorView hidden =
        part_of(matrix_in(workspace_.hidden, 0, workspace_.tokens, inner), 1, columns.begin, count);
    if (blocks_[block].up_weights.size() == 1) {
        multiply(parameters.up, normed, blocks_[block].activation, {}, hidden, columns);
        return;
    }
    const TensorView both = matrix_in(workspace_.up, 0, workspace_.tokens, 2 * inner);
    const TensorView gate = part_of(both, 1, columns.begin, count);
    const TensorView up = part_of(both, 1, inner + columns.begin, count);
    if (count == inner) {
        multiply(parameters.up, normed, Activation::none, {}, both, {0, 2 * inner});
    } else {
        multiply(parameters.up, normed, Activation::none, {}, gate, columns);
        multiply(parameters.up, normed, Activation::none, {}, up,
                 {inner + columns.begin, inner + columns.end});
    }
    call("swiglu", &KernelTable::swiglu, gate, up, hidden);
}

void DecoderPass::down(std::size_t block, std::int64_t part) const {
    const std::int64_t tokens = workspace_.tokens, width = x_.sizes[1];
    const Range columns = columns_of(part, width);
    if (columns.begin == columns.end) return;
    const TensorView out =
        block + 1 == blocks_.size() ? result_ : matrix_in(workspace_.x, 0, tokens, width);
    const std::int64_t inner = blocks_[block].down_weight.size(1);
    multiply(prepared_.blocks[block].down, matrix_in(workspace_.hidden, 0, tokens, inner),
             Activation::none, matrix_in(workspace_.middle, 0, tokens, width),
             part_of(out, 1, columns.begin, columns.end - columns.begin), columns);
}

void DecoderPass::head(std::int64_t part) const {
    const Range columns = columns_of(part, logits_.sizes[1]);
    if (columns.begin == columns.end) return;
    const TensorView last = part_of(result_, 0, result_.sizes[0] - 1, 1);
    multiply(prepared_.head, normalised(prepared_.norm, last, part), Activation::none, {},
             part_of(logits_, 1, columns.begin, columns.end - columns.begin), columns);
}

}  // namespace tempra
