// Attention forward, without a T x T matrix:
//
//   out_i = sum_j p_ij v_j,  p_ij = exp(scale q_i.k_j - log_sum_exp_i),  j visible to i
//
// T. Dao: FlashAttention-2 (2023); running maximum and sum: M. Milakov, N. Gimelshein (2018).
//
// Scores are held transposed, [key][query]: queries lie along vector lanes, so that maxima, sums,
// masks and rescaling need no horizontal operation, and both inner products read the smaller side
// by broadcasts. One block is a panel of queries (64 with AVX-512) against kKeyBlock keys; its
// scores and the transposed output [head_dim][panel] stay in the first-level cache. A causal
// diagonal block is cut into strips of one vector's keys that skip the query vectors that see
// nothing.
//
// Bytes: q, out once; k, v once per task. A task is (sequence, kv head, chunk of query rows): it
// packs the keys and values it sees once, for all its query panels and all heads of the group.
// Threads: tasks. No value is shared between tasks, so results do not depend on the thread count.
#include "kernels/attention_pack.h"
#include "kernels/attention_problem.h"
#include "kernels/attention_softmax.h"
#include "kernels/attention_tile.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {
namespace {

// Scores of one tile on their way to the score block; `masked` tiles get -infinity where unseen.
template <class Real, bool kMasked>
struct ScoreSink : ZeroStart<Real> {
    Real* scores;
    BlockMask<Real> mask;
    std::int64_t first_lane, key;

    template <int kRows, int kVectors>
    [[gnu::always_inline]] void end(std::int64_t m, Vec<Real> (&sums)[kRows][kVectors]) const {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                Vec<Real> value = sums[r][v];
                if constexpr (kMasked) {
                    value = mask.apply(key + m + r, first_lane + v * kLanes<Real>, value,
                                       -kInfinity<Real>);
                }
                store<Real>(scores + (m + r) * kPanel<Real> + v * kLanes<Real>, value);
            }
    }
};

template <class Mode>
struct ForwardTask {
    using T = typename Mode::Storage;
    using Real = typename Mode::Real;
    using Element = typename Mode::Element;
    static constexpr std::int64_t kWidth = kPanel<Real>;
    static constexpr std::int64_t kKeyBlock = 64;

    const AttentionProblem& problem;
    AttentionSequence sequence;
    RowPrefetch& prefetch;
    std::int64_t base_key;  // of the packed keys
    Element *keys, *values, *queries, *weights;
    Real *scores, *output, *maximum_score, *sum, *rescale, *keep;

    ForwardTask(const AttentionProblem& p, const AttentionSequence& s, RowPrefetch& next)
        : problem(p), sequence(s), prefetch(next) {}

    std::int64_t carve(void* base, std::int64_t key_count) {
        ScratchCarver carver(base);
        const std::int64_t padded_keys = round_up(key_count, Mode::kDepth);
        const std::int64_t dim = padded_dim<Real>(problem.head_dim);
        keys = carver.take<Element>(key_count * row_elements<Mode>(problem.head_dim));
        values = carver.take<Element>(padded_keys / Mode::kDepth * dim);
        queries = carver.take<Element>(dim * kWidth);
        scores = carver.take<Real>(kKeyBlock * kWidth);
        weights = reinterpret_cast<Element*>(scores);
        if constexpr (Mode::kDepth == 2) weights = carver.take<Element>(kKeyBlock / 2 * kWidth);
        output = carver.take<Real>(dim * kWidth);
        maximum_score = carver.take<Real>(kWidth);
        sum = carver.take<Real>(kWidth);
        rescale = carver.take<Real>(kWidth);
        keep = problem.dropout_probability > 0 ? carver.take<Real>(kKeyBlock * kWidth) : nullptr;
        return carver.used();
    }

    // Keys of a block that the same query vectors see (some of).
    struct Strip {
        std::int64_t begin, end;    // keys, within the block
        std::int64_t first_vector;  // of the panel
    };

    void scores_of(const Strip& strip, std::int64_t key, std::int64_t vectors, bool masked,
                   const BlockMask<Real>& mask) {
        const std::int64_t ld = row_elements<Mode>(problem.head_dim);
        const std::int64_t lane = strip.first_vector * kLanes<Real>;
        const TileOperands<Element> operands{
            keys + (key - base_key + strip.begin) * ld, ld, 1, queries + lane, kWidth,
            ceil_divide(problem.head_dim, Mode::kDepth)};
        Real* to = scores + strip.begin * kWidth + lane;
        const std::int64_t rows = strip.end - strip.begin, live = vectors - strip.first_vector;
        if (masked) {
            product(operands, rows, live, ScoreSink<Real, true>{{}, to, mask, lane, strip.begin});
        } else {
            product(operands, rows, live, ScoreSink<Real, false>{{}, to, mask, lane, strip.begin});
        }
    }

    // Turns one query vector's scores into weights; updates its maximum and sum.
    void soften(const Strip* strips, int strip_count, std::int64_t v) {
        const std::int64_t lane = v * kLanes<Real>;
        const Real factor = static_cast<Real>(problem.scale_magnitude * kLog2E);
        const Vec<Real> old_maximum = load<Real>(maximum_score + lane);
        Vec<Real> highest = old_maximum;
        for (int s = 0; s < strip_count && strips[s].first_vector <= v; ++s) {
            for (std::int64_t k = strips[s].begin; k < strips[s].end; ++k) {
                highest = maximum<Real>(highest, load<Real>(scores + k * kWidth + lane));
            }
        }
        // A lane that has seen nothing yet keeps weight 0 instead of exp(-inf - -inf).
        const Vec<Real> lowest = broadcast<Real>(-kInfinity<Real>);
        const Vec<Real> reference = (highest == lowest ? Vec<Real>{} : highest) * factor;
        const Vec<Real> shrink = exp2_vector(old_maximum * factor - reference);
        Vec<Real> total = load<Real>(sum + lane) * shrink;
        for (int s = 0; s < strip_count && strips[s].first_vector <= v; ++s) {
            for (std::int64_t k = strips[s].begin; k < strips[s].end; k += Mode::kDepth) {
                Real* at = scores + k * kWidth + lane;
                Vec<Real> weight = exp2_vector(load<Real>(at) * factor - reference);
                total += weight;
                if (keep != nullptr) weight *= load<Real>(keep + k * kWidth + lane);
                if constexpr (Mode::kDepth == 2) {
                    Vec<Real> odd = {};
                    if (k + 1 < strips[s].end) {
                        odd = exp2_vector(load<Real>(at + kWidth) * factor - reference);
                        total += odd;
                        if (keep != nullptr) odd *= load<Real>(keep + (k + 1) * kWidth + lane);
                    }
                    const VecUint32 pair = interleave_rows(round_rows(weight, odd));
                    std::memcpy(weights + k / 2 * kWidth + lane, &pair, sizeof(pair));
                } else {
                    store<Real>(at, weight);
                }
            }
        }
        store<Real>(maximum_score + lane, highest);
        store<Real>(sum + lane, total);
        store<Real>(rescale + lane, shrink);
    }

    void add_values(const Strip& strip, std::int64_t key, std::int64_t vectors, Start start) {
        const std::int64_t dim = padded_dim<Real>(problem.head_dim);
        const std::int64_t lane = strip.first_vector * kLanes<Real>;
        const TileOperands<Element> operands{
            values + (key - base_key + strip.begin) / Mode::kDepth * dim,
            1,
            dim,
            weights + strip.begin / Mode::kDepth * kWidth + lane,
            kWidth,
            ceil_divide(strip.end - strip.begin, Mode::kDepth)};
        const std::int64_t live = vectors - strip.first_vector;
        Real* to = output + lane;
        switch (start) {
            case Start::zero:
                return product(operands, problem.head_dim, live,
                               OutputSink<Real, Start::zero>{to, kWidth, nullptr});
            case Start::add:
                return product(operands, problem.head_dim, live,
                               OutputSink<Real, Start::add>{to, kWidth, nullptr});
            case Start::rescale:
                return product(operands, problem.head_dim, live,
                               OutputSink<Real, Start::rescale>{to, kWidth, rescale + lane});
        }
    }

    // Queries [q0, q0 + count) of `head` against all keys they see; leaves output, sum and maximum.
    void panel(const DropoutPosition& dropout, std::int64_t q0, std::int64_t count) {
        const std::int64_t vectors = ceil_divide(count, kLanes<Real>), q1 = q0 + count;
        for (std::int64_t i = 0; i < vectors * kLanes<Real>; ++i) {
            maximum_score[i] = -kInfinity<Real>;
            sum[i] = Real(0);
        }
        const std::int64_t end = sequence.end_key(q1 - 1);
        const std::int64_t first = sequence.first_key(q0);
        const std::int64_t begin = base_key + (first - base_key) / Mode::kDepth * Mode::kDepth;
        bool touched = false;
        for (std::int64_t key = begin; key < end; key += kKeyBlock) {
            const std::int64_t key_end = min_of(end, key + kKeyBlock);
            const bool edge = sequence.causal &&
                              (key_end > sequence.end_key(q0) || key < sequence.first_key(q1 - 1));
            const BlockMask<Real> mask = block_mask<Real>(sequence, q0, key);
            Strip strips[kKeyBlock / kLanes<Real> + 1];
            const int strip_count = cut(edge, q0, key, key_end, vectors, strips);
            if (strip_count == 0) continue;
            prefetch.advance();
            for (int s = 0; s < strip_count; ++s) scores_of(strips[s], key, vectors, edge, mask);
            const bool fresh = !touched && strips[0].first_vector == 0;
            if (!touched && !fresh) clear_output(vectors);
            for (int s = 0; s < strip_count && keep != nullptr; ++s) {
                const std::int64_t lane = strips[s].first_vector * kLanes<Real>;
                fill_dropout_mask(dropout, q0 + lane, key + strips[s].begin,
                                  strips[s].end - strips[s].begin, vectors * kLanes<Real> - lane,
                                  kWidth, keep + strips[s].begin * kWidth + lane);
            }
            for (std::int64_t v = strips[0].first_vector; v < vectors; ++v) {
                soften(strips, strip_count, v);
            }
            for (int s = 0; s < strip_count; ++s) {
                add_values(strips[s], key, vectors,
                           s > 0 ? Start::add : (fresh ? Start::zero : Start::rescale));
            }
            touched = true;
        }
        if (!touched) clear_output(vectors);
    }

    void clear_output(std::int64_t vectors) {
        for (std::int64_t d = 0; d < problem.head_dim; ++d) {
            std::memset(output + d * kWidth, 0,
                        static_cast<std::size_t>(vectors * kLanes<Real>) * sizeof(Real));
        }
    }

    int cut(bool edge, std::int64_t q0, std::int64_t key, std::int64_t key_end,
            std::int64_t vectors, Strip* strips) const {
        if (!edge) {
            strips[0] = {0, key_end - key, 0};
            return 1;
        }
        constexpr std::int64_t kStep = kLanes<Real>;
        int count = 0;
        for (std::int64_t k = 0; k < key_end - key; k += kStep) {
            const std::int64_t first = max_of(0, key + k - sequence.shift - q0) / kLanes<Real>;
            if (first >= vectors) break;
            strips[count++] = {k, min_of(k + kStep, key_end - key), first};
        }
        return count;
    }

    // Writes out, and the logarithm of the sum, for the panel's queries.
    void finish(const AttentionArguments& a, std::int64_t head, std::int64_t q0,
                std::int64_t count) {
        const double kept = 1.0 - problem.dropout_probability;
        const Real keep_scale = static_cast<Real>(kept > 0.0 ? 1.0 / kept : 0.0);
        const std::int64_t row = sequence.query_begin + q0;
        for (std::int64_t i = 0; i < round_up(count, kLanes<Real>); ++i) {
            rescale[i] = sum[i] == Real(0) ? Real(0) : keep_scale / sum[i];
        }
        store_transposed<Real>(output, count, problem.head_dim, rescale,
                               head_row<T>(a.out, row, head), a.out.strides[0]);
        if (!a.log_sum_exp.present()) return;
        const Real scale = static_cast<Real>(problem.scale_magnitude);
        for (std::int64_t i = 0; i < count; ++i) {
            const Real value =
                sum[i] == Real(0)
                    ? -kInfinity<Real>
                    : maximum_score[i] * scale + log2_scalar(sum[i]) * static_cast<Real>(kLn2);
            store_statistic<Real>(a.log_sum_exp, head, row + i, value);
        }
    }
};

inline void prefetch_forward(const AttentionArguments& a, const AttentionSequence& sequence,
                             std::int64_t kv_head, std::int64_t group, RowPrefetch& prefetch) {
    prefetch.add(a.k, sequence.key_begin, sequence.keys, kv_head);
    prefetch.add(a.v, sequence.key_begin, sequence.keys, kv_head);
    prefetch.add(a.q, sequence.query_begin, sequence.queries, kv_head * group);
    prefetch.add(a.out, sequence.query_begin, sequence.queries, kv_head * group);
}

// One task; false when memory ran out.
template <class Mode>
bool forward_chunk(const AttentionArguments& a, const AttentionProblem& problem, std::int64_t s,
                   std::int64_t kv_head, std::int64_t q_begin, std::int64_t q_end,
                   RowPrefetch& prefetch) {
    using T = typename Mode::Storage;
    ForwardTask<Mode> task(problem, problem.sequence(s), prefetch);
    const AttentionSequence& sequence = task.sequence;
    q_end = min_of(q_end, sequence.queries);
    if (q_begin >= q_end) return true;
    task.base_key = sequence.first_key(q_begin);
    const std::int64_t end = max_of(task.base_key, sequence.end_key(q_end - 1));
    const std::int64_t key_count = end - task.base_key;
    Scratch scratch(task.carve(nullptr, key_count));
    if (!scratch.ok()) return false;
    task.carve(scratch.as<void>(), key_count);

    const std::int64_t key_row = sequence.key_begin + task.base_key;
    pack_rows<Mode>(head_row<const T>(a.k, key_row, kv_head), a.k.strides[0], key_count,
                    problem.head_dim, task.keys);
    pack_row_steps<Mode>(head_row<const T>(a.v, key_row, kv_head), a.v.strides[0], key_count,
                         round_up(key_count, Mode::kDepth), problem.head_dim, task.values);
    for (std::int64_t g = 0; g < problem.group; ++g) {
        const std::int64_t head = kv_head * problem.group + g;
        const DropoutPosition dropout = dropout_position(problem, sequence, head);
        for (std::int64_t q0 = q_begin; q0 < q_end; q0 += task.kWidth) {
            const std::int64_t count = min_of(task.kWidth, q_end - q0);
            pack_columns<Mode>(head_row<const T>(a.q, sequence.query_begin + q0, head),
                               a.q.strides[0], count, problem.head_dim, problem.scale_sign,
                               task.queries);
            task.panel(dropout, q0, count);
            task.finish(a, head, q0, count);
        }
    }
    return true;
}

template <class Mode>
KernelStatus attention_forward(const AttentionArguments& a) {
    using T = typename Mode::Storage;
    using Real = typename Mode::Real;
    const AttentionProblem problem(a);
    if (problem.heads == 0 || problem.kv_heads == 0) return kKernelOk;
    zero_rows_outside<T>(a.out, problem.sequences > 0 ? problem.offsets_q[0] : 0,
                         problem.sequences > 0
                             ? problem.offsets_q[problem.sequences * problem.offsets_q_stride]
                             : 0);
    if (problem.sequences <= 0 || problem.max_queries <= 0) return kKernelOk;
    if (is_decoding(a)) return attention_decode(a);
    const std::int64_t units = problem.sequences * problem.kv_heads;
    const std::int64_t rows = attention_chunk_rows(problem.max_queries, units, problem.group,
                                                   kForwardTasks, kPanel<Real>);
    const std::int64_t chunks = ceil_divide(problem.max_queries, rows);
    const std::int64_t tasks = chunks * units;
    int out_of_memory = 0;
    const auto run = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
            const std::int64_t chunk = chunks - 1 - task / units, unit = task % units;
            RowPrefetch prefetch;
            if (task + 1 < end) {
                const std::int64_t next = (task + 1) % units;
                prefetch_forward(a, problem.sequence(next / problem.kv_heads),
                                 next % problem.kv_heads, problem.group, prefetch);
            }
            if (!forward_chunk<Mode>(a, problem, unit / problem.kv_heads, unit % problem.kv_heads,
                                     chunk * rows, (chunk + 1) * rows, prefetch)) {
                __atomic_store_n(&out_of_memory, 1, __ATOMIC_RELAXED);
            }
        }
    };
    // Late chunks first: under a causal mask they see the most keys.
    for_attention_tasks(chunks > 1 && problem.causal, tasks, run);
    return out_of_memory != 0 ? kKernelOutOfMemory : kKernelOk;
}

}  // namespace

KernelStatus attention(const KernelContext& /*context*/, const AttentionArguments& arguments) {
    switch (arguments.q.dtype) {
        case DType::f32: return attention_forward<RealMode<float>>(arguments);
#if defined(__AVX512BF16__)
        case DType::bf16: return attention_forward<PairMode>(arguments);
#else
        case DType::bf16: return attention_forward<RealMode<bfloat16>>(arguments);
#endif
#if TEMPRA_ISA_IS_baseline
        case DType::f64: return attention_forward<RealMode<double>>(arguments);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

void register_attention(KernelTable& table) {
    table.attention = &attention;
    table.attention_backward = &attention_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
