// Attention of a few queries against many keys (decoding with a KV cache): the same formula as
// attention.cpp, arranged for memory bandwidth instead of arithmetic.
//
// A task is (sequence, kv head, split of kSplitKeys keys); it reads its keys and values once, in
// place, for all query rows and heads of the group, and leaves an unnormalised partial output with
// its maximum and sum. The partials are then combined in order of split. Splits depend on the
// longest sequence alone, so results do not depend on the thread count. Bytes: k and v once;
// partials (head_dim + 2) * 4 bytes per split and row, 1/128 of that or less.
#include "kernels/attention_pack.h"
#include "kernels/attention_problem.h"
#include "kernels/attention_softmax.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {
namespace {

constexpr std::int64_t kDecodeQueries = 4;
constexpr std::int64_t kSplitKeys = 256;

template <class T>
struct DecodeTask {
    using Real = Arithmetic<T>;
    static constexpr int kCount = kLanes<Real>;

    const AttentionArguments& a;
    const AttentionProblem& problem;
    AttentionSequence sequence;
    std::int64_t kv_head, begin, end;  // keys of this split
    std::int64_t rows, dim;            // queries x group heads; padded head_dim
    Real *queries, *scores;            // [rows][dim]; [rows][kSplitKeys]
    Real *partial, *statistics;        // [rows][dim]; [rows][2]: maximum (times scale), sum

    void load_queries() {
        for (std::int64_t r = 0; r < rows; ++r) {
            const T* from = head_row<const T>(a.q, sequence.query_begin + r / problem.group,
                                              kv_head * problem.group + r % problem.group);
            for (std::int64_t d = 0; d < dim; d += kCount) {
                store<Real>(queries + r * dim + d,
                            load_up_to<Real>(from + d, problem.head_dim - d));
            }
        }
    }

    template <int kRows>
    void score_rows(std::int64_t row) {
        const std::int64_t whole = problem.head_dim / kCount * kCount;
        const Real scale = static_cast<Real>(problem.scale_magnitude * problem.scale_sign);
        const T* from = head_row<const T>(a.k, sequence.key_begin + begin, kv_head);
        for (std::int64_t k = begin; k < end; ++k, from += a.k.strides[0]) {
            Vec<Real> sums[kRows] = {};
            const Real* query = queries + row * dim;
#pragma GCC unroll 4
            for (std::int64_t d = 0; d < whole; d += kCount) {
                const Vec<Real> key = load<Real>(from + d);
                for (int r = 0; r < kRows; ++r) sums[r] += key * load<Real>(query + r * dim + d);
            }
            if (whole < problem.head_dim) {
                const Vec<Real> key = load_partial<Real>(from + whole, problem.head_dim - whole);
                for (int r = 0; r < kRows; ++r)
                    sums[r] += key * load<Real>(query + r * dim + whole);
            }
            for (int r = 0; r < kRows; ++r) {
                scores[(row + r) * kSplitKeys + k - begin] = sum_lanes<Real>(sums[r]) * scale;
            }
        }
    }

    void soften(std::int64_t row) {
        const std::int64_t query = row / problem.group;
        const std::int64_t first = sequence.first_key(query), last = sequence.end_key(query);
        Real* score = scores + row * kSplitKeys;
        Real highest = -kInfinity<Real>;
        for (std::int64_t k = begin; k < end; ++k) {
            if (k < first || k >= last) score[k - begin] = -kInfinity<Real>;
            if (score[k - begin] > highest) highest = score[k - begin];
        }
        for (std::int64_t k = end; k < begin + round_up(end - begin, kCount); ++k) {
            score[k - begin] = -kInfinity<Real>;
        }
        const Real reference = highest == -kInfinity<Real> ? Real(0) : highest;
        Vec<Real> total = {};
        for (std::int64_t k = 0; k < end - begin; k += kCount) {
            const Vec<Real> weight =
                exp2_vector((load<Real>(score + k) - reference) * static_cast<Real>(kLog2E));
            total += weight;
            store<Real>(score + k, weight);
        }
        statistics[row * 2] = highest;
        statistics[row * 2 + 1] = sum_lanes<Real>(total);
    }

    template <int kRows, int kVectors>
    void add_whole_values(std::int64_t row, std::int64_t d) {
        Vec<Real> sums[kRows][kVectors] = {};
        const T* from = head_row<const T>(a.v, sequence.key_begin + begin, kv_head) + d;
        const Real* weight = scores + row * kSplitKeys;
        for (std::int64_t k = 0; k < end - begin; ++k, from += a.v.strides[0]) {
            for (int v = 0; v < kVectors; ++v) {
                const Vec<Real> value = load<Real>(from + v * kCount);
                for (int r = 0; r < kRows; ++r) sums[r][v] += value * weight[r * kSplitKeys + k];
            }
        }
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) {
                store<Real>(partial + (row + r) * dim + d + v * kCount, sums[r][v]);
            }
        }
    }
    template <int kRows>
    void add_value_columns(std::int64_t row, std::int64_t d) {
        Vec<Real> sums[kRows] = {};
        const T* from = head_row<const T>(a.v, sequence.key_begin + begin, kv_head) + d;
        const Real* weight = scores + row * kSplitKeys;
        for (std::int64_t k = 0; k < end - begin; ++k, from += a.v.strides[0]) {
            const Vec<Real> value = load_up_to<Real>(from, problem.head_dim - d);
            for (int r = 0; r < kRows; ++r) sums[r] += value * weight[r * kSplitKeys + k];
        }
        for (int r = 0; r < kRows; ++r) store<Real>(partial + (row + r) * dim + d, sums[r]);
    }

    template <int kRows>
    void rows_at(std::int64_t row) {
        score_rows<kRows>(row);
        for (int r = 0; r < kRows; ++r) soften(row + r);
        std::int64_t d = 0;
        for (; d + 4 * kCount <= problem.head_dim; d += 4 * kCount)
            add_whole_values<kRows, 4>(row, d);
        for (; d < dim; d += kCount) add_value_columns<kRows>(row, d);
    }

    void run() {
        load_queries();
        std::int64_t row = 0;
        for (; row + 4 <= rows; row += 4) rows_at<4>(row);
        for (; row + 2 <= rows; row += 2) rows_at<2>(row);
        if (row < rows) rows_at<1>(row);
    }
};

template <class T>
struct DecodePlan {
    using Real = Arithmetic<T>;
    const AttentionArguments& a;
    AttentionProblem problem;
    std::int64_t splits, rows, dim;
    Real *partials, *statistics;  // [sequence][kv head][split][rows]([dim] or [2])

    explicit DecodePlan(const AttentionArguments& arguments)
        : a(arguments),
          problem(arguments),
          splits(max_of(1, ceil_divide(problem.max_keys, kSplitKeys))),
          rows(problem.max_queries * problem.group),
          dim(padded_dim<Real>(problem.head_dim)),
          partials(nullptr),
          statistics(nullptr) {}

    [[nodiscard]] std::int64_t slots() const {
        return problem.sequences * problem.kv_heads * splits * rows;
    }

    bool split(std::int64_t index) const {
        const std::int64_t unit = index / splits, which = index % splits;
        DecodeTask<T> task{a,
                           problem,
                           problem.sequence(unit / problem.kv_heads),
                           unit % problem.kv_heads,
                           0,
                           0,
                           0,
                           dim,
                           nullptr,
                           nullptr,
                           partials + index * rows * dim,
                           statistics + index * rows * 2};
        task.rows = task.sequence.queries * problem.group;
        task.begin = which * kSplitKeys;
        task.end = min_of(task.begin + kSplitKeys, task.sequence.keys);
        const auto visible = [&] {
            return task.rows > 0 && task.begin < task.end &&
                   task.end > task.sequence.first_key(0) &&
                   task.begin < task.sequence.end_key(task.sequence.queries - 1);
        };
        if (!visible()) {
            for (std::int64_t r = 0; r < task.rows; ++r) {
                task.statistics[r * 2] = -kInfinity<Real>;
                task.statistics[r * 2 + 1] = Real(0);
            }
            return true;
        }
        Scratch scratch((task.rows * (dim + kSplitKeys)) * static_cast<std::int64_t>(sizeof(Real)));
        if (!scratch.ok()) return false;
        task.queries = scratch.as<Real>();
        task.scores = task.queries + task.rows * dim;
        task.run();
        return true;
    }

    // All rows of one (sequence, kv head): weighs the partials by their maxima, in order.
    void combine(std::int64_t unit) const {
        constexpr int kCount = kLanes<Real>;
        const AttentionSequence sequence = problem.sequence(unit / problem.kv_heads);
        for (std::int64_t r = 0; r < sequence.queries * problem.group; ++r) {
            const std::int64_t row = sequence.query_begin + r / problem.group;
            const std::int64_t head = unit % problem.kv_heads * problem.group + r % problem.group;
            Real highest = -kInfinity<Real>;
            for (std::int64_t s = 0; s < splits; ++s) {
                const Real* pair = statistics + ((unit * splits + s) * rows + r) * 2;
                if (pair[0] > highest) highest = pair[0];
            }
            const Real reference = highest == -kInfinity<Real> ? Real(0) : highest;
            Real total = 0;
            T* out = head_row<T>(a.out, row, head);
            const auto weight_of = [&](std::int64_t s) {
                const Real* pair = statistics + ((unit * splits + s) * rows + r) * 2;
                return exp2_vector(Vec<Real>{} +
                                   (pair[0] - reference) * static_cast<Real>(kLog2E))[0];
            };
            for (std::int64_t s = 0; s < splits; ++s) {
                total += weight_of(s) * statistics[((unit * splits + s) * rows + r) * 2 + 1];
            }
            const Real inverse = total == Real(0) ? Real(0) : Real(1) / total;
            for (std::int64_t d = 0; d < problem.head_dim; d += kCount) {
                Vec<Real> sum = {};
                for (std::int64_t s = 0; s < splits; ++s) {
                    // A split that saw nothing has an unwritten partial.
                    if (statistics[((unit * splits + s) * rows + r) * 2 + 1] == Real(0)) continue;
                    sum += load<Real>(partials + ((unit * splits + s) * rows + r) * dim + d) *
                           weight_of(s);
                }
                store_partial<Real>(out + d, sum * inverse, min_of(kCount, problem.head_dim - d));
            }
            if (a.log_sum_exp.present()) {
                store_statistic<Real>(
                    a.log_sum_exp, head, row,
                    total == Real(0) ? -kInfinity<Real>
                                     : reference + log2_scalar(total) * static_cast<Real>(kLn2));
            }
        }
    }
};

template <class T>
KernelStatus decode(const AttentionArguments& a) {
    using Real = Arithmetic<T>;
    DecodePlan<T> plan(a);
    const std::int64_t values = plan.slots() * (plan.dim + 2);
    Scratch scratch(values * static_cast<std::int64_t>(sizeof(Real)));
    if (!scratch.ok()) return kKernelOutOfMemory;
    plan.partials = scratch.as<Real>();
    plan.statistics = plan.partials + plan.slots() * plan.dim;
    const std::int64_t units = plan.problem.sequences * plan.problem.kv_heads;
    int out_of_memory = 0;
    parallel_for(units * plan.splits, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            if (!plan.split(i)) __atomic_store_n(&out_of_memory, 1, __ATOMIC_RELAXED);
        }
    });
    if (out_of_memory != 0) return kKernelOutOfMemory;
    parallel_for(units, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin; unit < end; ++unit) plan.combine(unit);
    });
    return kKernelOk;
}

}  // namespace

bool is_decoding(const AttentionArguments& arguments) {
    return arguments.max_query_length <= kDecodeQueries && arguments.dropout_probability == 0;
}

KernelStatus attention_decode(const AttentionArguments& arguments) {
    switch (arguments.q.dtype) {
        case DType::f32: return decode<float>(arguments);
        case DType::bf16: return decode<bfloat16>(arguments);
#if TEMPRA_ISA_IS_baseline
        case DType::f64: return decode<double>(arguments);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
