// Attention cases for tests: inputs, a plain f64 reference of outputs and gradients, and a run of
// the kernels on any ISA and dtype.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "tempra/dtype.h"

namespace tempra::testing {

struct AttentionCase {
    std::string name;
    std::vector<std::int64_t> query_lengths, key_lengths;
    std::int64_t heads = 1, kv_heads = 1, head_dim = 64;
    bool causal = true;
    std::int64_t window = 0;
    float dropout = 0.0F;
    float scale = 0.0F;             // 0: 1 / sqrt(head_dim)
    double magnitude = 1.0;         // of q and k
    bool one_buffer = false;        // q, k, v are slices of one qkv buffer (self-attention only)
    std::int64_t leading_rows = 0;  // rows before the first and after the last sequence

    [[nodiscard]] std::int64_t query_rows() const;
    [[nodiscard]] std::int64_t key_rows() const;
    [[nodiscard]] double score_scale() const;
};

// Everything in f64, [rows, heads, head_dim] contiguous; log_sum_exp [heads, query rows].
struct AttentionValues {
    std::vector<double> q, k, v, grad_out;
    std::vector<double> out, log_sum_exp, grad_q, grad_k, grad_v;
};

// Random inputs, already rounded to `dtype`, so that every run starts from the same numbers.
AttentionValues make_inputs(const AttentionCase& c, DType dtype, unsigned seed = 1);

// Fills the outputs from the formulas, one score at a time.
void reference_attention(const AttentionCase& c, AttentionValues& values);

// Fills the outputs by the kernels of one ISA.
void run_attention(const AttentionCase& c, cpu::Isa isa, DType dtype, AttentionValues& values);

// max |a - b| / max(|b|, floor), 0 where both are empty; infinite where a value is not finite.
double normalised_error(const std::vector<double>& a, const std::vector<double>& b,
                        double floor = 0.0);

}  // namespace tempra::testing
