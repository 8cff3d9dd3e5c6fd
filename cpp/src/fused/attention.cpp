// S = scale Q K^T (masked), P = softmax(S), O = P V, one sequence and head at a time; the kernels
// keep one log-sum-exp a row and recompute P. With D = rowsum(dO * O):
//   dV = P^T dO;  dP = dO V^T;  dS = P * (dP - D);  dQ = scale dS K;  dK = scale dS^T Q
#include "tempra/fused/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "fused/composed_attention.h"
#include "ops/philox_key.h"
#include "ops/rows.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"
#include "tempra/random.h"

namespace tempra {

namespace {

struct Sequences {
    Tensor offsets_q, offsets_k;
    std::int64_t longest_q = 0, longest_k = 0;
    bool even = false;  // all are as long as the longest
};

// Checks one list of offsets against the number of tokens; returns the longest sequence. On a
// device the list is not read: the caller knows the longest one, and kernels stay within tokens.
std::int64_t check_offsets(const char* name, const Tensor& offsets, std::int64_t tokens,
                           std::int64_t given_longest) {
    TEMPRA_CHECK(DtypeError, offsets.dtype() == DType::i32, "attention: {} has dtype {}; needs i32",
                 name, offsets.dtype());
    TEMPRA_CHECK(ShapeError, offsets.dimensions() == 1 && offsets.size(0) >= 2,
                 "attention: {} has shape {}; needs [sequences + 1]", name, offsets.sizes());
    if (offsets.device().type != DeviceType::cpu) {
        TEMPRA_CHECK(ShapeError, given_longest <= tokens && (given_longest > 0 || tokens == 0),
                     "attention: {} on {} come with a longest sequence of {}; needs 1 to {} "
                     "(tokens), as the list is not read back from there",
                     name, offsets.device(), given_longest, tokens);
        return given_longest;
    }
    const auto* values = offsets.data_as<std::int32_t>();
    const std::int64_t count = offsets.size(0) - 1;
    TEMPRA_CHECK(ShapeError, values[0] == 0 && values[count] == tokens,
                 "attention: {} runs from {} to {}; needs 0 to {} tokens", name, values[0],
                 values[count], tokens);
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        TEMPRA_CHECK(ShapeError, values[i + 1] >= values[i],
                     "attention: {} falls from {} to {} at sequence {}", name, values[i],
                     values[i + 1], i);
        longest = std::max<std::int64_t>(longest, values[i + 1] - values[i]);
    }
    return longest;
}

Tensor even_offsets(std::int64_t sequences, std::int64_t length, Device device) {
    TEMPRA_CHECK(ShapeError, sequences * length <= std::numeric_limits<std::int32_t>::max(),
                 "attention: {} sequences of {} tokens exceed 2^31 - 1 tokens", sequences, length);
    if (device.type != DeviceType::cpu && length > 0) {
        const auto step = static_cast<double>(length);
        return arange(0, step * static_cast<double>(sequences) + 1, step, DType::i32, device);
    }
    if (device.type != DeviceType::cpu) return zeros({sequences + 1}, DType::i32, device);
    const Tensor offsets = empty({sequences + 1}, DType::i32);
    auto* values = offsets.data_as<std::int32_t>();
    for (std::int64_t i = 0; i <= sequences; ++i) values[i] = static_cast<std::int32_t>(i * length);
    return offsets;
}

Sequences sequences_of(const AttentionOptions& options, const Tensor& q, std::int64_t tokens_k) {
    const std::int64_t tokens_q = q.size(0);
    Sequences result;
    result.offsets_q = options.offsets_q;
    result.offsets_k = options.offsets_k.defined() ? options.offsets_k : options.offsets_q;
    std::int64_t longest_q = options.longest_q;
    std::int64_t longest_k = options.longest_k > 0 ? options.longest_k : longest_q;
    if (!result.offsets_q.defined()) {
        result.offsets_q = even_offsets(1, tokens_q, q.device());
        longest_q = tokens_q;
    }
    if (!result.offsets_k.defined()) {
        result.offsets_k = even_offsets(1, tokens_k, q.device());
        longest_k = tokens_k;
    }
    for (const Tensor* offsets : {&result.offsets_q, &result.offsets_k}) {
        if (offsets->device() != q.device()) {
            raise_mixed_devices("attention", q.device(), offsets->device());
        }
    }
    TEMPRA_CHECK(ShapeError, result.offsets_q.size(0) == result.offsets_k.size(0),
                 "attention: offsets_q has {} sequences, offsets_k {}",
                 result.offsets_q.size(0) - 1, result.offsets_k.size(0) - 1);
    result.offsets_q = contiguous(result.offsets_q);
    result.offsets_k = contiguous(result.offsets_k);
    result.longest_q = check_offsets("offsets_q", result.offsets_q, tokens_q, longest_q);
    result.longest_k = check_offsets("offsets_k", result.offsets_k, tokens_k, longest_k);
    const bool given = options.offsets_q.defined() || options.offsets_k.defined();
    result.even = options.even || !given;
    const std::int64_t count = result.offsets_q.size(0) - 1;
    TEMPRA_CHECK(ShapeError,
                 !result.even ||
                     (count * result.longest_q == tokens_q && count * result.longest_k == tokens_k),
                 "attention: {} sequences of {} queries and {} keys are said to be even, but there "
                 "are {} and {} tokens",
                 count, result.longest_q, result.longest_k, tokens_q, tokens_k);
    return result;
}

AttentionArguments arguments_for(const AttentionOptions& options, const Sequences& sequences,
                                 std::int64_t head_dim, const PhiloxKey& key) {
    AttentionArguments arguments;
    arguments.offsets_q = sequences.offsets_q.view();
    arguments.offsets_k = sequences.offsets_k.view();
    arguments.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim)));
    arguments.dropout_probability = options.dropout_probability;
    arguments.dropout_key = key;
    arguments.causal = options.causal ? 1 : 0;
    arguments.window = static_cast<std::int32_t>(options.window);
    arguments.max_query_length = sequences.longest_q;
    arguments.max_key_length = sequences.longest_k;
    arguments.uniform = sequences.even ? 1 : 0;
    return arguments;
}

// Heads of the packed buffer [tokens, (heads + 2 kv_heads) * head_dim].
struct PackedHeads {
    Tensor q, k, v;
};
PackedHeads unpack(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                   std::int64_t head_dim) {
    const Tensor all = reshape(qkv, {qkv.size(0), heads + 2 * kv_heads, head_dim});
    return {narrow(all, 1, 0, heads), narrow(all, 1, heads, kv_heads),
            narrow(all, 1, heads + kv_heads, kv_heads)};
}

// Inputs q, k, v; or one packed qkv, when `packed_heads` is not 0.
struct AttentionNode : Node {
    SavedTensor q, k, v, out, log_sum_exp;
    AttentionOptions options;
    Sequences sequences;
    PhiloxKey key;
    std::int64_t packed_heads = 0, packed_kv_heads = 0;

    [[nodiscard]] const char* name() const override {
        return packed_heads == 0 ? "attention" : "attention_qkv";
    }

    void backward(BackwardContext& context) override {
        const Tensor& result = out.get(name());
        PackedHeads heads;
        if (packed_heads == 0) {
            heads = {q.get(name()), k.get(name()), v.get(name())};
        } else {
            heads = unpack(q.get(name()), packed_heads, packed_kv_heads, result.size(2));
        }
        PackedHeads gradients;
        Tensor packed_gradient;
        if (packed_heads == 0) {
            gradients = {empty_like(heads.q), empty_like(heads.k), empty_like(heads.v)};
        } else {
            packed_gradient = empty(edges()[0].sizes, result.dtype(), result.device());
            gradients = unpack(packed_gradient, packed_heads, packed_kv_heads, result.size(2));
        }
        const Tensor grad_out = reshape(context.contiguous_grad_output(), result.sizes());
        AttentionBackwardArguments arguments;
        arguments.forward = arguments_for(options, sequences, result.size(2), key);
        arguments.forward.q = heads.q.view();
        arguments.forward.k = heads.k.view();
        arguments.forward.v = heads.v.view();
        arguments.forward.out = result.view();
        arguments.forward.log_sum_exp = log_sum_exp.get(name()).view();
        arguments.grad_out = grad_out.view();
        arguments.grad_q = gradients.q.view();
        arguments.grad_k = gradients.k.view();
        arguments.grad_v = gradients.v.view();
        launch(name(), result, &KernelTable::attention_backward, arguments);
        if (packed_heads != 0) {
            context.set(0, packed_gradient);
            return;
        }
        context.set(0, gradients.q);
        context.set(1, gradients.k);
        context.set(2, gradients.v);
    }

    void release() override {
        for (SavedTensor* saved : {&q, &k, &v, &out, &log_sum_exp}) saved->reset();
        sequences = {};
    }
};

void check_heads(const Tensor& q, const Tensor& k, const Tensor& v) {
    TEMPRA_CHECK(ShapeError, q.dimensions() == 3 && k.dimensions() == 3 && v.dimensions() == 3,
                 "attention: q, k, v have shapes {}, {}, {}; needs [tokens, heads, head_dim] each",
                 q.sizes(), k.sizes(), v.sizes());
    TEMPRA_CHECK(
        ShapeError, k.sizes() == v.sizes() && q.size(2) == k.size(2),
        "attention: q, k, v have shapes {}, {}, {}; k and v must be equal and head_dim shared",
        q.sizes(), k.sizes(), v.sizes());
    TEMPRA_CHECK(ShapeError, k.size(1) > 0 && q.size(1) % k.size(1) == 0,
                 "attention: {} query heads are not a multiple of {} key heads", q.size(1),
                 k.size(1));
    TEMPRA_CHECK(DtypeError, q.dtype() == k.dtype() && k.dtype() == v.dtype(),
                 "attention: q, k, v have dtypes {}, {}, {}; they must be equal", q.dtype(),
                 k.dtype(), v.dtype());
}

void check_options(const AttentionOptions& options) {
    TEMPRA_CHECK(ConfigError, options.dropout_probability >= 0 && options.dropout_probability < 1,
                 "attention: dropout_probability {} given; needs [0, 1)",
                 options.dropout_probability);
    TEMPRA_CHECK(ConfigError,
                 options.window >= 0 && options.window <= std::numeric_limits<std::int32_t>::max(),
                 "attention: window {} given; needs 0 (none) or a positive number of keys",
                 options.window);
    TEMPRA_CHECK(ConfigError, options.window == 0 || options.causal,
                 "attention: window {} given without a causal mask; a window counts back from the "
                 "query, so it needs causal=True",
                 options.window);
}

// Runs the forward kernel; fills in the node's saved results when there is one.
Tensor run_forward(const PackedHeads& heads, const AttentionOptions& options,
                   const Sequences& sequences, const PhiloxKey& key, AttentionNode* node) {
    const Tensor out = empty(heads.q.sizes(), heads.q.dtype(), heads.q.device());
    Tensor log_sum_exp;
    if (node != nullptr) {
        const DType dtype = out.dtype() == DType::f64 ? DType::f64 : DType::f32;
        log_sum_exp = empty({heads.q.size(1), heads.q.size(0)}, dtype, out.device());
    }
    AttentionArguments arguments = arguments_for(options, sequences, heads.q.size(2), key);
    arguments.q = heads.q.view();
    arguments.k = heads.k.view();
    arguments.v = heads.v.view();
    arguments.out = out.view();
    arguments.log_sum_exp = log_sum_exp.view();
    launch("attention", out, &KernelTable::attention, arguments);
    if (node != nullptr) {
        node->options = options;
        node->sequences = sequences;
        node->key = key;
        node->out = SavedTensor::output(out);
        node->log_sum_exp = SavedTensor::output(log_sum_exp);
    }
    return out;
}

PhiloxKey dropout_key(const AttentionOptions& options, std::int64_t heads,
                      const Sequences& sequences) {
    if (options.dropout_probability == 0) return {};
    TEMPRA_CHECK(
        ShapeError, heads <= kDropoutHeads && sequences.longest_k <= kDropoutKeys,
        "attention: dropout_probability {} with {} heads and sequences of {} keys; dropout "
        "has numbers for {} heads and {} keys",
        options.dropout_probability, heads, sequences.longest_k, kDropoutHeads, kDropoutKeys);
    return take_key(default_generator(), sequences.offsets_q.device());
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& given) {
    check_options(given);
    if (q.dimensions() == 4 && k.dimensions() == 4 && v.dimensions() == 4) {
        TEMPRA_CHECK(ShapeError, q.size(0) == k.size(0) && k.size(0) == v.size(0),
                     "attention: batches of {}, {} and {} rows differ", q.size(0), k.size(0),
                     v.size(0));
        TEMPRA_CHECK(ShapeError, !given.offsets_q.defined() && !given.offsets_k.defined(),
                     "attention: offsets are for packed 3-d inputs; q has shape {}", q.sizes());
        AttentionOptions options = given;
        options.offsets_q = even_offsets(q.size(0), q.size(1), q.device());
        options.offsets_k = even_offsets(k.size(0), k.size(1), k.device());
        options.longest_q = q.size(1);
        options.longest_k = k.size(1);
        options.even = true;
        const auto flat = [](const Tensor& x) {
            return reshape(x, {x.size(0) * x.size(1), x.size(2), x.size(3)});
        };
        return reshape(attention(flat(q), flat(k), flat(v), options), q.sizes());
    }
    check_heads(q, k, v);
    const Sequences sequences = sequences_of(given, q, k.size(0));
    const PhiloxKey key = dropout_key(given, q.size(1), sequences);
    if (is_composed()) {
        return composed_attention(q, k, v, given, sequences.offsets_q, sequences.offsets_k);
    }
    const bool recording = should_record({&q, &k, &v});
    const GradModeGuard off(false);
    const PackedHeads heads{unit_columns(q), unit_columns(k), unit_columns(v)};
    if (!recording) return run_forward(heads, given, sequences, key, nullptr);
    auto node = make_node<AttentionNode>({&q, &k, &v});
    node->q = SavedTensor::input(heads.q);
    node->k = SavedTensor::input(heads.k);
    node->v = SavedTensor::input(heads.v);
    const Tensor out = run_forward(heads, given, sequences, key, node.get());
    attach(out, node);
    return out;
}

Tensor attention_qkv(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                     std::int64_t head_dim, const AttentionOptions& options) {
    check_options(options);
    TEMPRA_CHECK(
        ShapeError, heads > 0 && kv_heads > 0 && head_dim > 0 && heads % kv_heads == 0,
        "attention_qkv: {} heads, {} kv_heads, head_dim {}: heads must be a multiple of kv_heads",
        heads, kv_heads, head_dim);
    TEMPRA_CHECK(ShapeError,
                 qkv.dimensions() == 2 && qkv.size(1) == (heads + 2 * kv_heads) * head_dim,
                 "attention_qkv: qkv has shape {}; needs [tokens, ({} + 2 * {}) * {}]", qkv.sizes(),
                 heads, kv_heads, head_dim);
    const Sequences sequences = sequences_of(options, qkv, qkv.size(0));
    const PhiloxKey key = dropout_key(options, heads, sequences);
    const Shape sizes{qkv.size(0), heads * head_dim};
    if (is_composed()) {
        const PackedHeads parts = unpack(qkv, heads, kv_heads, head_dim);
        return reshape(composed_attention(parts.q, parts.k, parts.v, options, sequences.offsets_q,
                                          sequences.offsets_k),
                       sizes);
    }
    const bool recording = should_record({&qkv});
    const GradModeGuard off(false);
    const Tensor rows = contiguous(qkv);
    const PackedHeads parts = unpack(rows, heads, kv_heads, head_dim);
    if (!recording) return reshape(run_forward(parts, options, sequences, key, nullptr), sizes);
    auto node = make_node<AttentionNode>({&qkv});
    node->q = SavedTensor::input(rows);
    node->packed_heads = heads;
    node->packed_kv_heads = kv_heads;
    const Tensor out = reshape(run_forward(parts, options, sequences, key, node.get()), sizes);
    attach(out, node);
    return out;
}

}  // namespace tempra
