#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "attention_case.h"
#include "tempra/threads.h"

namespace tempra::testing {

void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name; }

namespace {

struct KernelRun {
    cpu::Isa isa;
    DType dtype;
};

std::vector<KernelRun> all_runs() {
    std::vector<KernelRun> runs{{cpu::Isa::baseline, DType::f64}};
    for (int isa = 0; isa <= static_cast<int>(cpu::detect_isa()); ++isa) {
        runs.push_back({static_cast<cpu::Isa>(isa), DType::f32});
        runs.push_back({static_cast<cpu::Isa>(isa), DType::bf16});
    }
    return runs;
}

std::string name_of_run(const KernelRun& run) {
    return std::string(cpu::name_of(run.isa)) + "_" + name_of(run.dtype);
}

// Normalised error against the f64 result from the same (rounded) inputs. f32 sums up to a few
// hundred products: 1e-5. bf16 rounds out, and P and dS before their products, at 2^-9 each: three
// roundings of 2e-3 and their propagation, so 1.5e-2 of the largest gradient.
struct Tolerance {
    double out, gradient;
};
Tolerance tolerance(DType dtype) {
    if (dtype == DType::f64) return {1e-13, 1e-12};
    if (dtype == DType::f32) return {2e-6, 1e-5};
    return {6e-3, 1.5e-2};
}
// A score of size s has a rounding error of s * 2^-24 in f32, which is the relative error of its
// weight: 1e-3 where scores reach thousands, nothing to speak of otherwise.
Tolerance tolerance(const AttentionCase& c, DType dtype) {
    Tolerance limit = tolerance(dtype);
    const double largest_score =
        4.0 * c.magnitude * c.magnitude * std::sqrt(static_cast<double>(c.head_dim));
    const double extra = largest_score * (dtype == DType::f64 ? 0x1p-53 : 0x1p-24);
    return {limit.out + extra, limit.gradient + extra};
}

std::vector<AttentionCase> cases() {
    std::vector<AttentionCase> all;
    const auto add = [&](AttentionCase c) { all.push_back(c); };
    add({.name = "causal",
         .query_lengths = {150, 150},
         .key_lengths = {150, 150},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "not_causal",
         .query_lengths = {97},
         .key_lengths = {97},
         .heads = 2,
         .kv_heads = 2,
         .causal = false});
    add({.name = "one_token", .query_lengths = {1}, .key_lengths = {1}});
    add({.name = "small_heads",
         .query_lengths = {64, 64},
         .key_lengths = {64, 64},
         .heads = 4,
         .kv_heads = 4,
         .head_dim = 32});
    add({.name = "head_128", .query_lengths = {130}, .key_lengths = {130}, .head_dim = 128});
    for (const std::int64_t dim : {1, 25, 50, 80, 96, 200}) {
        add({.name = "head_" + std::to_string(dim),
             .query_lengths = {70},
             .key_lengths = {70},
             .heads = 2,
             .kv_heads = 2,
             .head_dim = dim});
    }
    add({.name = "packed",
         .query_lengths = {5, 64, 1, 129, 17},
         .key_lengths = {5, 64, 1, 129, 17},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "packed_empty",
         .query_lengths = {0, 33, 0, 20, 0},
         .key_lengths = {0, 33, 0, 20, 0},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "padded_rows",
         .query_lengths = {20, 50},
         .key_lengths = {20, 50},
         .heads = 2,
         .kv_heads = 2,
         .leading_rows = 3});
    add({.name = "grouped",
         .query_lengths = {90, 40},
         .key_lengths = {90, 40},
         .heads = 6,
         .kv_heads = 2});
    add({.name = "multi_query",
         .query_lengths = {100},
         .key_lengths = {100},
         .heads = 4,
         .kv_heads = 1,
         .head_dim = 50,
         .causal = false});
    add({.name = "one_buffer",
         .query_lengths = {100, 30},
         .key_lengths = {100, 30},
         .heads = 3,
         .kv_heads = 3,
         .one_buffer = true});
    add({.name = "one_buffer_grouped",
         .query_lengths = {70},
         .key_lengths = {70},
         .heads = 4,
         .kv_heads = 2,
         .head_dim = 25,
         .one_buffer = true});
    for (const std::int64_t window : {1, 7, 64, 100, 1000}) {
        add({.name = "window_" + std::to_string(window),
             .query_lengths = {200},
             .key_lengths = {200},
             .window = window});
    }
    add({.name = "window_not_causal",
         .query_lengths = {90},
         .key_lengths = {121},
         .causal = false,
         .window = 35});
    add({.name = "window_grouped",
         .query_lengths = {150, 20},
         .key_lengths = {170, 20},
         .heads = 4,
         .kv_heads = 2,
         .window = 33});
    add({.name = "more_keys",
         .query_lengths = {37},
         .key_lengths = {150},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "more_queries",
         .query_lengths = {150},
         .key_lengths = {37},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "more_queries_not_causal",
         .query_lengths = {150},
         .key_lengths = {37},
         .causal = false});
    add({.name = "no_keys",
         .query_lengths = {10, 12},
         .key_lengths = {0, 12},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "no_queries",
         .query_lengths = {0, 12},
         .key_lengths = {9, 12},
         .heads = 2,
         .kv_heads = 2});
    add({.name = "dropout",
         .query_lengths = {100, 41},
         .key_lengths = {100, 41},
         .heads = 3,
         .kv_heads = 3,
         .dropout = 0.2F});
    add({.name = "dropout_grouped",
         .query_lengths = {65},
         .key_lengths = {93},
         .heads = 4,
         .kv_heads = 2,
         .head_dim = 25,
         .causal = false,
         .dropout = 0.5F});
    add({.name = "decode",
         .query_lengths = {1, 1, 1},
         .key_lengths = {700, 1, 300},
         .heads = 4,
         .kv_heads = 4});
    add({.name = "decode_grouped",
         .query_lengths = {1, 1},
         .key_lengths = {513, 256},
         .heads = 14,
         .kv_heads = 2});
    add({.name = "decode_several",
         .query_lengths = {4, 3, 0, 2},
         .key_lengths = {300, 3, 5, 0},
         .heads = 3,
         .kv_heads = 3,
         .head_dim = 80});
    add({.name = "decode_window",
         .query_lengths = {2, 1},
         .key_lengths = {600, 100},
         .heads = 2,
         .kv_heads = 1,
         .head_dim = 25,
         .window = 150});
    add({.name = "decode_not_causal",
         .query_lengths = {3},
         .key_lengths = {270},
         .head_dim = 128,
         .causal = false});
    add({.name = "large_scores",
         .query_lengths = {130},
         .key_lengths = {130},
         .heads = 2,
         .kv_heads = 2,
         .magnitude = 30.0});
    add({.name = "large_scores_decode",
         .query_lengths = {2},
         .key_lengths = {520},
         .magnitude = 30.0});
    add({.name = "negative_scale", .query_lengths = {80}, .key_lengths = {80}, .scale = -0.2F});
    add({.name = "several_chunks",
         .query_lengths = {600, 300},
         .key_lengths = {600, 300},
         .heads = 1,
         .kv_heads = 1,
         .head_dim = 32});
    add({.name = "several_chunks_window",
         .query_lengths = {700},
         .key_lengths = {800},
         .heads = 2,
         .kv_heads = 2,
         .head_dim = 16,
         .window = 90});
    add({.name = "several_chunks_not_causal",
         .query_lengths = {600},
         .key_lengths = {900},
         .head_dim = 20,
         .causal = false,
         .window = 333});
    return all;
}

void expect_equal_statistics(const AttentionCase& c, const AttentionValues& actual,
                             const AttentionValues& expected, DType dtype) {
    const std::int64_t rows = c.query_rows();
    for (std::int64_t head = 0; head < c.heads; ++head) {
        for (std::int64_t i = c.leading_rows; i < rows - c.leading_rows; ++i) {
            const double a = actual.log_sum_exp[head * rows + i];
            const double b = expected.log_sum_exp[head * rows + i];
            if (std::isinf(b)) {
                ASSERT_EQ(a, b) << "row " << i;
            } else {
                ASSERT_NEAR(a, b, (dtype == DType::f64 ? 1e-12 : 2e-6) * (1.0 + std::abs(b)))
                    << "row " << i;
            }
        }
    }
}

class AttentionKernel : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionKernel, MatchesReference) {
    const AttentionCase& c = GetParam();
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
        const AttentionValues inputs = make_inputs(c, dtype);
        AttentionValues expected = inputs;
        reference_attention(c, expected);
        for (const KernelRun& run : all_runs()) {
            if (run.dtype != dtype) continue;
            SCOPED_TRACE(name_of_run(run));
            AttentionValues actual = inputs;
            run_attention(c, run.isa, dtype, actual);
            const Tolerance limit = tolerance(c, dtype);
            // One-hot weights have no gradient; errors are then judged by the size of its terms.
            // scale * |dP| * |k|, where dP is a sum of head_dim products of normal numbers.
            const double term = std::abs(c.score_scale()) * c.magnitude *
                                std::sqrt(static_cast<double>(c.head_dim));
            EXPECT_LE(normalised_error(actual.out, expected.out), limit.out);
            expect_equal_statistics(c, actual, expected, dtype);
            EXPECT_LE(normalised_error(actual.grad_q, expected.grad_q, term), limit.gradient);
            EXPECT_LE(normalised_error(actual.grad_k, expected.grad_k, term), limit.gradient);
            EXPECT_LE(normalised_error(actual.grad_v, expected.grad_v), limit.gradient);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionKernel, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

// Bit for bit the same for 1, 2 and 3 threads, and again.
TEST(Attention, ResultsDoNotDependOnThreads) {
    const int before = num_threads();
    const AttentionCase several[] = {{.name = "chunks",
                                      .query_lengths = {600, 90},
                                      .key_lengths = {600, 90},
                                      .heads = 2,
                                      .kv_heads = 1,
                                      .dropout = 0.1F},
                                     {.name = "decode",
                                      .query_lengths = {1, 2},
                                      .key_lengths = {900, 30},
                                      .heads = 2,
                                      .kv_heads = 1}};
    for (const AttentionCase& c : several) {
        for (const KernelRun& run : all_runs()) {
            SCOPED_TRACE(c.name + " " + name_of_run(run));
            AttentionValues first = make_inputs(c, run.dtype);
            set_num_threads(1);
            run_attention(c, run.isa, run.dtype, first);
            for (const int threads : {1, 2, 3}) {
                AttentionValues again = make_inputs(c, run.dtype);
                set_num_threads(threads);
                run_attention(c, run.isa, run.dtype, again);
                EXPECT_EQ(first.out, again.out);
                EXPECT_EQ(first.grad_q, again.grad_q);
                EXPECT_EQ(first.grad_k, again.grad_k);
                EXPECT_EQ(first.grad_v, again.grad_v);
            }
        }
    }
    set_num_threads(before);
}

std::vector<double> rows_of(const std::vector<double>& values, std::int64_t width,
                            std::int64_t begin, std::int64_t end) {
    return {values.begin() + begin * width, values.begin() + end * width};
}

// A document's results do not depend on what it is packed with.
TEST(Attention, PackedEqualsSeparateDocuments) {
    const std::vector<std::int64_t> lengths{40, 7, 100, 1};
    const AttentionCase packed{.name = "packed",
                               .query_lengths = lengths,
                               .key_lengths = lengths,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = 48};
    for (const KernelRun& run : all_runs()) {
        SCOPED_TRACE(name_of_run(run));
        AttentionValues whole = make_inputs(packed, run.dtype);
        run_attention(packed, run.isa, run.dtype, whole);
        std::int64_t row = 0;
        for (const std::int64_t length : lengths) {
            AttentionCase one = packed;
            one.query_lengths = one.key_lengths = {length};
            AttentionValues values;
            const std::int64_t q_width = packed.heads * packed.head_dim;
            const std::int64_t k_width = packed.kv_heads * packed.head_dim;
            values.q = rows_of(whole.q, q_width, row, row + length);
            values.k = rows_of(whole.k, k_width, row, row + length);
            values.v = rows_of(whole.v, k_width, row, row + length);
            values.grad_out = rows_of(whole.grad_out, q_width, row, row + length);
            run_attention(one, run.isa, run.dtype, values);
            // A single token alone is decoding, which does not round P to bf16.
            const double limit = length > 4 ? 0.0 : tolerance(run.dtype).out;
            const auto expect_rows = [&](const std::vector<double>& a, const std::vector<double>& b,
                                         std::int64_t width) {
                EXPECT_LE(normalised_error(a, rows_of(b, width, row, row + length), 1.0), limit);
            };
            expect_rows(values.out, whole.out, q_width);
            expect_rows(values.grad_q, whole.grad_q, q_width);
            expect_rows(values.grad_k, whole.grad_k, k_width);
            expect_rows(values.grad_v, whole.grad_v, k_width);
            row += length;
        }
    }
}

// Rows without keys, and rows that belong to no sequence, are exactly zero.
TEST(Attention, RowsWithoutKeysAreZero) {
    const AttentionCase c{.name = "zeros",
                          .query_lengths = {80},
                          .key_lengths = {30},
                          .heads = 2,
                          .kv_heads = 2,
                          .leading_rows = 2};
    for (const KernelRun& run : all_runs()) {
        SCOPED_TRACE(name_of_run(run));
        AttentionValues values = make_inputs(c, run.dtype);
        run_attention(c, run.isa, run.dtype, values);
        const std::int64_t width = c.heads * c.head_dim;
        for (const std::vector<double>* result : {&values.out, &values.grad_q}) {
            for (std::int64_t row = 0; row < c.query_rows(); ++row) {
                const bool blind = row < c.leading_rows + 50 || row >= c.leading_rows + 80;
                const auto begin = result->begin() + row * width;
                const bool zero =
                    std::all_of(begin, begin + width, [](double v) { return v == 0.0; });
                // The query that sees one key has an output and no gradient.
                if (row != c.leading_rows + 50 || result == &values.out) {
                    EXPECT_EQ(zero, blind) << "row " << row;
                }
            }
        }
    }
}

TEST(Attention, NaNReachesItsRowsOnly) {
    const AttentionCase c{.name = "nan", .query_lengths = {100}, .key_lengths = {100}};
    for (const KernelRun& run : all_runs()) {
        SCOPED_TRACE(name_of_run(run));
        AttentionValues values = make_inputs(c, run.dtype);
        values.q[70 * 64 + 3] = std::nan("");
        run_attention(c, run.isa, run.dtype, values);
        for (std::int64_t row = 0; row < 100; ++row) {
            EXPECT_EQ(std::isnan(values.out[row * 64]), row == 70) << "row " << row;
        }
    }
}

TEST(Attention, RefusesOtherDtypes) {
    const AttentionCase c{.name = "f64", .query_lengths = {3}, .key_lengths = {3}};
    for (int isa = 1; isa <= static_cast<int>(cpu::detect_isa()); ++isa) {
        AttentionValues values = make_inputs(c, DType::f64);
        EXPECT_ANY_THROW(run_attention(c, static_cast<cpu::Isa>(isa), DType::f64, values));
    }
}

}  // namespace
}  // namespace tempra::testing
