#include <algorithm>
#include <numeric>

#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

struct Case {
    const char* name;
    std::vector<std::int64_t> queries, keys;  // lengths of the sequences
    std::int64_t heads = 4, kv_heads = 2, head_dim = 64;
    bool causal = true;
    std::int32_t window = 0;
    double dropout = 0, scale = 0.17;
    bool fused_qkv = false;    // q, k and v are slices of one buffer
    std::int64_t padding = 0;  // rows before and behind the sequences
    bool uniform = false;
};

const std::vector<Case>& cases() {
    static const std::vector<Case> all = {
        {.name = "one sequence", .queries = {200}, .keys = {200}},
        {.name = "packed", .queries = {70, 1, 130, 64}, .keys = {70, 1, 130, 64}, .padding = 5},
        {.name = "packed, slices of one buffer",
         .queries = {33, 90},
         .keys = {33, 90},
         .kv_heads = 4,
         .fused_qkv = true},
        {.name = "not causal", .queries = {100, 3}, .keys = {100, 3}, .causal = false},
        {.name = "fewer queries than keys", .queries = {5, 80}, .keys = {140, 100}},
        {.name = "more queries than keys", .queries = {140, 70}, .keys = {30, 64}},
        {.name = "no keys", .queries = {10, 20}, .keys = {0, 20}},
        {.name = "window", .queries = {210}, .keys = {210}, .window = 50},
        {.name = "window, not causal",
         .queries = {64},
         .keys = {150},
         .causal = false,
         .window = 33},
        {.name = "dropout", .queries = {90, 40}, .keys = {90, 40}, .dropout = 0.3},
        {.name = "heads of 128", .queries = {150}, .keys = {150}, .head_dim = 128},
        {.name = "heads of 40", .queries = {70}, .keys = {70}, .head_dim = 40},
        {.name = "heads of 33", .queries = {70, 9}, .keys = {70, 9}, .head_dim = 33},
        {.name = "heads of 160", .queries = {40}, .keys = {40}, .kv_heads = 1, .head_dim = 160},
        {.name = "negative scale", .queries = {70}, .keys = {70}, .scale = -0.1},
        {.name = "empty documents", .queries = {0, 70, 0, 33, 0}, .keys = {0, 70, 0, 33, 0}},
        {.name = "packed, groups of four, heads of 128",
         .queries = {9, 150, 31},
         .keys = {9, 150, 31},
         .kv_heads = 1,
         .head_dim = 128,
         .padding = 3},
        {.name = "packed, window", .queries = {140, 21}, .keys = {140, 21}, .window = 40},
        {.name = "rows", .queries = {70, 70, 70}, .keys = {70, 70, 70}, .uniform = true},
        {.name = "one row", .queries = {129}, .keys = {129}, .uniform = true},
        {.name = "rows, slices of one buffer",
         .queries = {64, 64},
         .keys = {64, 64},
         .kv_heads = 4,
         .fused_qkv = true,
         .uniform = true},
        {.name = "rows, window, groups of four, heads of 128",
         .queries = {130, 130},
         .keys = {130, 130},
         .kv_heads = 1,
         .head_dim = 128,
         .window = 50,
         .uniform = true},
        {.name = "rows, fewer queries than keys",
         .queries = {64, 64},
         .keys = {100, 100},
         .uniform = true},
        {.name = "rows, not causal, other keys",
         .queries = {90, 90},
         .keys = {33, 33},
         .causal = false,
         .uniform = true},
        {.name = "rows, heads of 160",
         .queries = {70},
         .keys = {70},
         .head_dim = 160,
         .uniform = true},
        // Few queries: keys in chunks.
        {.name = "decode", .queries = {1}, .keys = {1000}},
        {.name = "decode, sequences",
         .queries = {1, 1, 1, 1},
         .keys = {300, 7, 512, 257},
         .heads = 3,
         .kv_heads = 3,
         .padding = 2},
        {.name = "decode, a group of eight",
         .queries = {1, 1},
         .keys = {70, 530},
         .heads = 8,
         .kv_heads = 1,
         .head_dim = 128},
        {.name = "decode, many rows a unit", .queries = {8, 3}, .keys = {330, 8}, .heads = 6},
        {.name = "decode, window", .queries = {3}, .keys = {700}, .window = 90},
        {.name = "decode, not causal", .queries = {2}, .keys = {300}, .causal = false},
        {.name = "decode, more queries than keys", .queries = {7, 1}, .keys = {4, 0}},
        {.name = "decode, heads of 33", .queries = {2}, .keys = {280}, .head_dim = 33},
        {.name = "decode, heads of 160", .queries = {1}, .keys = {290}, .head_dim = 160},
        {.name = "decode, slices of one buffer",
         .queries = {5},
         .keys = {5},
         .kv_heads = 4,
         .fused_qkv = true},
    };
    return all;
}

std::int64_t longest(const std::vector<std::int64_t>& lengths) {
    return *std::max_element(lengths.begin(), lengths.end());
}

std::int64_t rows_of(const Case& c, const std::vector<std::int64_t>& lengths) {
    return std::accumulate(lengths.begin(), lengths.end(), 2 * c.padding);
}

Operand offsets(const Case& c, const std::vector<std::int64_t>& lengths) {
    std::vector<std::int32_t> at = {static_cast<std::int32_t>(c.padding)};
    for (const std::int64_t length : lengths) {
        at.push_back(at.back() + static_cast<std::int32_t>(length));
    }
    Operand operand = raw(at.data(), at.size() * 4);
    operand.view.dtype = DType::i32;
    operand.view.sizes[0] = static_cast<std::int64_t>(at.size());
    return operand;
}

Operand heads(const Case& c, DType dtype, const std::vector<std::int64_t>& lengths,
              std::int64_t count, Values values = Values::normal) {
    const std::int64_t width = c.fused_qkv ? 3 * count * c.head_dim : count * c.head_dim;
    return strided(dtype, {rows_of(c, lengths), count, c.head_dim}, {width, c.head_dim, 1}, values);
}

AttentionArguments arguments(const Case& c, const Views& v) {
    AttentionArguments a;
    a.q = v[0];
    a.k = v[1];
    a.v = v[2];
    a.out = v[3];
    a.log_sum_exp = v[4];
    a.offsets_q = v[5];
    a.offsets_k = c.queries == c.keys ? v[5] : v[6];
    a.uniform = c.uniform ? 1 : 0;
    a.scale = c.scale;
    a.dropout_probability = c.dropout;
    a.dropout_key = {0x1234567890ABCDEFULL, 11, 5, 1000};
    a.causal = c.causal ? 1 : 0;
    a.window = c.window;
    a.max_query_length = longest(c.queries);
    a.max_key_length = longest(c.keys);
    return a;
}

std::string title(const Case& c, DType dtype, const char* kernel, bool cudnn) {
    return std::string(kernel) + (cudnn ? " by cuDNN " : " ") + name_of(dtype) + " " + c.name;
}

// Weights, and dS, are rounded to bf16 (fp16) on the tensor cores and nowhere on the CPU: 2^-9
// (2^-12) of each of the terms, which are added up with random signs.
Tolerance forward_tolerance(DType dtype) {
    if (dtype == DType::f16) return {2e-3, 1.3e-3};
    return dtype == DType::bf16 ? Tolerance{1.6e-2, 1e-2} : Tolerance{3e-5, 3e-5};
}
Tolerance backward_tolerance(DType dtype) {
    if (dtype == DType::f16) return {2.5e-3, 6.5e-3};
    return dtype == DType::bf16 ? Tolerance{2e-2, 5e-2} : Tolerance{5e-5, 2e-4};
}

// Leaves `cudnn` chosen.
void check_case(Suite& suite, const Case& c, DType dtype, bool cudnn) {
    const std::int64_t rows = rows_of(c, c.queries);
    const auto out = [&](Values values) {
        return tensor(dtype, {rows, c.heads, c.head_dim}, values);
    };
    const std::vector<Operand> operands = {heads(c, dtype, c.queries, c.heads),
                                           heads(c, dtype, c.keys, c.kv_heads),
                                           heads(c, dtype, c.keys, c.kv_heads),
                                           out(Values::normal),
                                           tensor(DType::f32, {c.heads, rows}, Values::normal),
                                           offsets(c, c.queries),
                                           offsets(c, c.keys)};
    // Forward first: backward needs what it leaves.
    std::vector<Operand> both = operands;
    both.push_back(out(Values::normal));
    both.push_back(heads(c, dtype, c.queries, c.heads));
    both.push_back(heads(c, dtype, c.keys, c.kv_heads));
    both.push_back(heads(c, dtype, c.keys, c.kv_heads));
    const auto check = [&](const std::string& name, bool forward_by_cudnn, bool backward_by_cudnn) {
        Backend& backend = suite.backend();
        suite.check(
            name, both, backward_tolerance(dtype),
            [=, &backend](const KernelTable& k, const KernelContext& context, const Views& v) {
                AttentionBackwardArguments b;
                b.forward = arguments(c, v);
                static_cast<void>(backend.choose_attention(forward_by_cudnn));
                const KernelStatus status = k.attention(context, b.forward);
                if (status != kKernelOk) return status;
                static_cast<void>(backend.choose_attention(backward_by_cudnn));
                b.grad_out = v[7];
                b.grad_q = v[8];
                b.grad_k = v[9];
                b.grad_v = v[10];
                return k.attention_backward(context, b);
            });
    };
    if (cudnn && dtype == DType::bf16) {
        // Either reads the other's log-sum-exps. First, as cuDNN would leave them in the memory
        // that is used again.
        check(title(c, dtype, "attention_backward", cudnn) + ", forward by ours", false, true);
        check(title(c, dtype, "attention forward", cudnn) + ", backward by ours", true, false);
        static_cast<void>(suite.backend().choose_attention(true));
    }
    suite.check(title(c, dtype, "attention", cudnn), operands, forward_tolerance(dtype),
                [c](const KernelTable& k, const KernelContext& context, const Views& v) {
                    return k.attention(context, arguments(c, v));
                });
    check(title(c, dtype, "attention_backward", cudnn), cudnn, cudnn);
}

}  // namespace

void check_attention(Suite& suite) {
    // Ours before cuDNN, which is left chosen. What cuDNN does not take is ours there too.
    for (const bool cudnn : {false, true}) {
        if (!suite.backend().choose_attention(cudnn)) continue;
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
            if (cudnn && dtype == DType::f32) continue;
            for (const Case& c : cases()) check_case(suite, c, dtype, cudnn);
        }
    }
}

}  // namespace tempra::cuda::parity
