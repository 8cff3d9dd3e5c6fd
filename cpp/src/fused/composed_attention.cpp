#include "fused/composed_attention.h"

#include <cmath>
#include <vector>

#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/matmul.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

// bool [queries, keys]: which keys a query sees. Positions count from the sequence's last key.
Tensor visible_keys(std::int64_t queries, std::int64_t keys, const AttentionOptions& options,
                    Device device) {
    const auto count_to = [device](std::int64_t end) {
        return arange(0, static_cast<double>(end), 1, DType::i64, device);
    };
    const auto number = [device](std::int64_t value) {
        return full({}, static_cast<double>(value), DType::i64, device);
    };
    const Tensor key = reshape(count_to(keys), {1, keys});
    const Tensor query = add(reshape(count_to(queries), {queries, 1}), number(keys - queries));
    Tensor visible = full({queries, keys}, 1, DType::boolean, device);
    if (options.causal) visible = logical_and(visible, less_equal(key, query));
    if (options.window > 0) {
        const Tensor first = subtract(query, number(options.window));
        visible = logical_and(visible, greater(key, first));
    }
    return visible;
}

// q [heads, queries, dim], k and v [heads, keys, dim]
Tensor one_sequence(const Tensor& q, const Tensor& k, const Tensor& v,
                    const AttentionOptions& options, double scale) {
    const Tensor visible = visible_keys(q.size(1), k.size(1), options, q.device());
    const Tensor mask = cast(visible, q.dtype());
    const Tensor scores = multiply(matmul(q, transpose(k, 1, 2)), scalar_like(q, scale));
    // A large negative score stands for "unseen"; the mask then removes rows that see nothing.
    const Tensor hidden = where(visible, scores, scalar_like(scores, -1e30));
    const std::int64_t last[] = {2};
    const Tensor peak = maximum_of(hidden.detach(), last, true);
    const Tensor weights = multiply(exp(subtract(hidden, peak)), mask);
    const Tensor total = sum(weights, last, true);
    const Tensor empty_rows = cast(equal(total, scalar_like(total, 0)), total.dtype());
    return matmul(divide(weights, add(total, empty_rows)), v);
}

}  // namespace

Tensor composed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionOptions& options, const Tensor& offsets_q,
                          const Tensor& offsets_k) {
    TEMPRA_CHECK(Error, options.dropout_probability == 0,
                 "attention: composed() has no dropout of attention weights; set it to 0");
    const double scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(2))));
    // One operation after the other for each sequence: here the host has to know them.
    const Tensor host_q = to_device(offsets_q, {}), host_k = to_device(offsets_k, {});
    const auto* starts_q = host_q.data_as<std::int32_t>();
    const auto* starts_k = host_k.data_as<std::int32_t>();
    const std::int64_t repeats = q.size(1) / k.size(1);
    const std::int64_t heads_first[] = {1, 0, 2};
    const auto repeated = [&](const Tensor& x) {  // [keys, kv_heads, dim] -> [heads, keys, dim]
        const Tensor each = expand(unsqueeze(x, 2), {x.size(0), x.size(1), repeats, x.size(2)});
        return permute(reshape(each, {x.size(0), q.size(1), x.size(2)}), heads_first);
    };
    std::vector<Tensor> pieces;
    for (std::int64_t s = 0; s + 1 < offsets_q.size(0); ++s) {
        const std::int64_t queries = starts_q[s + 1] - starts_q[s];
        const std::int64_t keys = starts_k[s + 1] - starts_k[s];
        const Tensor rows = narrow(q, 0, starts_q[s], queries);
        if (queries == 0 || keys == 0) {
            pieces.push_back(multiply(rows, scalar_like(rows, 0)));
            continue;
        }
        const Tensor result =
            one_sequence(permute(rows, heads_first), repeated(narrow(k, 0, starts_k[s], keys)),
                         repeated(narrow(v, 0, starts_k[s], keys)), options, scale);
        pieces.push_back(permute(result, heads_first));
    }
    return concatenate(pieces, 0);
}

}  // namespace tempra
