// Attention backward: recomputes the weights from log_sum_exp, a block at a time.
//
//   P_ij = exp(scale q_i.k_j - log_sum_exp_i)      dV_j = sum_i P_ij dO_i
//   dP_ij = dO_i.v_j,  delta_i = dO_i.O_i          dS_ij = P_ij (dP_ij - delta_i)
//   dK_j = scale sum_i dS_ij q_i                   dQ_i = scale sum_j dS_ij k_j
//
// Dropout multiplies P by a mask in dV and dP by the same mask; delta needs none.
// T. Dao: FlashAttention-2 (2023), algorithm 2; one pass, five inner products.
//
// As in attention.cpp blocks are transposed, [key][query]. P and dS come out of the first two
// products in the order in which the next two read them by broadcasts (rows of keys), and dS once
// more in the order in which the last reads it by vectors; dQ is accumulated transposed,
// [head_dim][panel], in fp32, and dK, dV in fp32 [key][head_dim].
//
// A task is (sequence, kv head, chunk of keys): dK and dV of a key have one writer. Where a head is
// cut into several chunks, each writes its own fp32 dQ, and a second pass adds them in order.
// Chunks depend on shapes alone and there are no atomics: results do not depend on the thread
// count. Bytes: q, k, v, out, grad_out read and three gradients written once per chunk; with more
// than one chunk 4 bytes more per element of q, chunk and direction.
#include "kernels/attention_gradient_sinks.h"
#include "kernels/attention_pack.h"
#include "kernels/attention_problem.h"
#include "kernels/attention_softmax.h"
#include "kernels/attention_tile.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {
namespace {

template <class Mode>
struct BackwardTask {
    using T = typename Mode::Storage;
    using Real = typename Mode::Real;
    using Element = typename Mode::Element;
    static constexpr std::int64_t kWidth = kPanel<Real>;
    static constexpr std::int64_t kKeyBlock = 64;

    const AttentionBackwardArguments& a;
    const AttentionProblem& problem;
    AttentionSequence sequence;
    std::int64_t kv_head;
    RowPrefetch& prefetch;
    std::int64_t key_begin = 0, key_count = 0;      // of the chunk, as far as any query sees it
    std::int64_t query_begin = 0, query_count = 0;  // of the panels that see any of it
    std::int64_t dim = 0, row_width = 0;            // padded head_dim; elements of a packed row

    Element *key_rows = nullptr, *key_steps = nullptr, *value_rows = nullptr;
    // All panels of one head.
    Element *query_columns = nullptr, *query_steps = nullptr;
    Element *grad_columns = nullptr, *grad_steps = nullptr;
    Real *grad_keys = nullptr, *grad_values = nullptr;                // [key][dim]
    Real* grad_queries = nullptr;                                     // [panel][dim][kWidth]
    Real *log_sum = nullptr, *delta = nullptr, *row_scale = nullptr;  // [query]; [kWidth]
    Real *weights = nullptr, *keep = nullptr;                         // [key][query] of a block
    Element *weight_rows = nullptr, *gradient_rows = nullptr, *gradient_steps = nullptr;

    std::int64_t carve(void* base) {
        constexpr bool kPairs = Mode::kDepth == 2;
        ScratchCarver carver(base);
        const std::int64_t keys = round_up(key_count, Mode::kDepth);
        const std::int64_t queries = round_up(query_count, kWidth);
        const std::int64_t block = kKeyBlock * kWidth;
        key_rows = carver.take<Element>(keys * row_width);
        key_steps = kPairs ? carver.take<Element>(keys / Mode::kDepth * dim) : key_rows;
        value_rows = carver.take<Element>(keys * row_width);
        query_columns = carver.take<Element>(queries * dim);
        query_steps = carver.take<Element>(queries / Mode::kDepth * dim);
        grad_columns = carver.take<Element>(queries * dim);
        grad_steps = carver.take<Element>(queries / Mode::kDepth * dim);
        grad_keys = carver.take<Real>(key_count * dim);
        grad_values = carver.take<Real>(key_count * dim);
        grad_queries = carver.take<Real>(queries * dim);
        log_sum = carver.take<Real>(queries);
        delta = carver.take<Real>(queries);
        row_scale = carver.take<Real>(kWidth);
        weights = carver.take<Real>(block);
        keep = problem.dropout_probability > 0 ? carver.take<Real>(block) : nullptr;
        weight_rows = reinterpret_cast<Element*>(weights);
        if (kPairs || keep != nullptr || base == nullptr) {
            weight_rows = carver.take<Element>(block / Mode::kDepth);
        }
        gradient_rows = carver.take<Element>(block / Mode::kDepth);
        gradient_steps = kPairs ? carver.take<Element>(block / Mode::kDepth) : gradient_rows;
        return carver.used();
    }

    void pack_keys() {
        const std::int64_t row = sequence.key_begin + key_begin;
        const T* keys = head_row<const T>(a.forward.k, row, kv_head);
        pack_rows<Mode>(keys, a.forward.k.strides[0], key_count, problem.head_dim, key_rows);
        if constexpr (Mode::kDepth == 2) {
            pack_row_steps<Mode>(keys, a.forward.k.strides[0], key_count,
                                 round_up(key_count, Mode::kDepth), problem.head_dim, key_steps);
        }
        pack_rows<Mode>(head_row<const T>(a.forward.v, row, kv_head), a.forward.v.strides[0],
                        key_count, problem.head_dim, value_rows);
        const std::size_t bytes = static_cast<std::size_t>(key_count * dim) * sizeof(Real);
        std::memset(grad_keys, 0, bytes);
        std::memset(grad_values, 0, bytes);
    }

    void pack_queries(std::int64_t head) {
        const std::int64_t q_stride = a.forward.q.strides[0], grad_stride = a.grad_out.strides[0];
        for (std::int64_t p = 0; p < query_count; p += kWidth) {
            const std::int64_t count = min_of(kWidth, query_count - p);
            const std::int64_t row = sequence.query_begin + query_begin + p;
            const std::int64_t at = p * dim;
            const T* queries = head_row<const T>(a.forward.q, row, head);
            const T* gradients = head_row<const T>(a.grad_out, row, head);
            pack_columns<Mode>(queries, q_stride, count, problem.head_dim, problem.scale_sign,
                               query_columns + at);
            pack_row_steps<Mode>(queries, q_stride, count, kWidth, problem.head_dim,
                                 query_steps + at / Mode::kDepth);
            pack_columns<Mode>(gradients, grad_stride, count, problem.head_dim, 1.0,
                               grad_columns + at);
            pack_row_steps<Mode>(gradients, grad_stride, count, kWidth, problem.head_dim,
                                 grad_steps + at / Mode::kDepth);
            for (std::int64_t i = 0; i < kWidth; ++i) {
                // +infinity gives weight 0: no key seen, or no query there.
                Real value = kInfinity<Real>;
                if (i < count) value = load_statistic<Real>(a.forward.log_sum_exp, head, row + i);
                if (value == -kInfinity<Real>) value = kInfinity<Real>;
                log_sum[p + i] = value * static_cast<Real>(kLog2E);
                delta[p + i] = i < count ? row_delta(row + i, head) : Real(0);
            }
        }
        std::memset(grad_queries, 0,
                    static_cast<std::size_t>(round_up(query_count, kWidth) * dim) * sizeof(Real));
    }

    Real row_delta(std::int64_t row, std::int64_t head) const {
        const T* out = head_row<const T>(a.forward.out, row, head);
        const T* gradient = head_row<const T>(a.grad_out, row, head);
        Vec<Real> sum = {};
        for (std::int64_t d = 0; d < problem.head_dim; d += kLanes<Real>) {
            const std::int64_t left = problem.head_dim - d;
            sum += load_up_to<Real>(out + d, left) * load_up_to<Real>(gradient + d, left);
        }
        return sum_lanes<Real>(sum);
    }

    // Keys [begin, end) of the block at `key`, query vectors [first, vectors) of the panel at `q0`.
    void strip(const DropoutPosition& dropout, std::int64_t key, std::int64_t begin,
               std::int64_t end, std::int64_t q0, std::int64_t first, std::int64_t vectors,
               bool masked) {
        const std::int64_t lane = first * kLanes<Real>, rows = end - begin, live = vectors - first;
        const std::int64_t k = key - key_begin + begin, panel = (q0 - query_begin) * dim;
        const std::int64_t depth = ceil_divide(problem.head_dim, Mode::kDepth);
        const BlockMask<Real> mask = block_mask<Real>(sequence, q0, key);
        const Real factor = static_cast<Real>(problem.scale_magnitude * kLog2E);
        const TileOperands<Element> score{key_rows + k * row_width,     row_width, 1,
                                          query_columns + panel + lane, kWidth,    depth};
        const TileOperands<Element> gradient{value_rows + k * row_width,  row_width, 1,
                                             grad_columns + panel + lane, kWidth,    depth};
        const Real* sums = log_sum + (q0 - query_begin);
        const auto weigh = [&]<bool kMasked, bool kDropout>() {
            product(score, rows, live,
                    WeightSink<Mode, kMasked, kDropout>{
                        {}, weights, weight_rows, sums, keep, factor, mask, lane, begin});
        };
        const auto differentiate = [&]<bool kDropout>() {
            product(gradient, rows, live,
                    ScoreGradientSink<Mode, kDropout>{{},
                                                      weights,
                                                      gradient_rows,
                                                      gradient_steps,
                                                      delta + (q0 - query_begin),
                                                      keep,
                                                      keep_scale(),
                                                      lane,
                                                      begin});
        };
        if (keep == nullptr) {
            masked ? weigh.template operator()<true, false>()
                   : weigh.template operator()<false, false>();
            differentiate.template operator()<false>();
        } else {
            fill_dropout_mask(dropout, q0 + lane, key + begin, rows, live * kLanes<Real>, kWidth,
                              keep + begin * kWidth + lane);
            masked ? weigh.template operator()<true, true>()
                   : weigh.template operator()<false, true>();
            differentiate.template operator()<true>();
        }
        add_key_side(weight_rows, grad_steps, grad_values, begin, rows, k, panel, lane, live);
        add_key_side(gradient_rows, query_steps, grad_keys, begin, rows, k, panel, lane, live);
        const TileOperands<Element> query_side{
            key_steps + k / Mode::kDepth * dim,
            1,
            dim,
            gradient_steps + begin / Mode::kDepth * kWidth + lane,
            kWidth,
            ceil_divide(rows, Mode::kDepth)};
        product(query_side, problem.head_dim, live,
                OutputSink<Real, Start::add>{grad_queries + panel + lane, kWidth, nullptr});
    }

    // to[key][dim] += sum over the strip's queries of block[key][query] * steps[query][dim]
    void add_key_side(const Element* block, const Element* steps, Real* to, std::int64_t begin,
                      std::int64_t rows, std::int64_t k, std::int64_t panel, std::int64_t lane,
                      std::int64_t live) {
        const std::int64_t vectors = dim / kLanes<Real>;
        for (std::int64_t v = 0; v < vectors; v += kTileVectors) {
            const std::int64_t d = v * kLanes<Real>;
            const TileOperands<Element> operands{block + (begin * kWidth + lane) / Mode::kDepth,
                                                 kWidth / Mode::kDepth,
                                                 1,
                                                 steps + (panel + lane * dim) / Mode::kDepth + d,
                                                 dim,
                                                 live * kLanes<Real> / Mode::kDepth};
            product(operands, rows, min_of(kTileVectors, vectors - v),
                    OutputSink<Real, Start::add>{to + k * dim + d, dim, nullptr});
        }
    }

    Real keep_scale() const {
        const double kept = 1.0 - problem.dropout_probability;
        return static_cast<Real>(kept > 0.0 ? 1.0 / kept : 0.0);
    }

    void block(const DropoutPosition& dropout, std::int64_t key, std::int64_t key_end,
               std::int64_t q0) {
        const std::int64_t q1 = min_of(q0 + kWidth, query_begin + query_count);
        if (q1 <= sequence.first_query(key) || q0 >= sequence.end_query(key_end)) return;
        const std::int64_t vectors = ceil_divide(q1 - q0, kLanes<Real>);
        prefetch.advance();
        const bool edge =
            sequence.causal && (key_end > sequence.end_key(q0) || key < sequence.first_key(q1 - 1));
        if (!edge) {
            strip(dropout, key, 0, key_end - key, q0, 0, vectors, false);
            return;
        }
        for (std::int64_t k = 0; k < key_end - key; k += kLanes<Real>) {
            const std::int64_t first = max_of(0, key + k - sequence.shift - q0) / kLanes<Real>;
            if (first >= vectors) break;
            strip(dropout, key, k, min_of(k + kLanes<Real>, key_end - key), q0, first, vectors,
                  true);
        }
    }

    void head(std::int64_t h) {
        pack_queries(h);
        const DropoutPosition dropout = dropout_position(problem, sequence, h);
        for (std::int64_t key = key_begin; key < key_begin + key_count; key += kKeyBlock) {
            const std::int64_t key_end = min_of(key + kKeyBlock, key_begin + key_count);
            for (std::int64_t q0 = query_begin; q0 < query_begin + query_count; q0 += kWidth) {
                block(dropout, key, key_end, q0);
            }
        }
    }

    void store_keys() {
        const double scale = problem.scale_magnitude * problem.scale_sign;
        for (std::int64_t k = 0; k < key_count; ++k) {
            const std::int64_t row = sequence.key_begin + key_begin + k;
            store_gradient(grad_keys + k * dim, static_cast<Real>(scale),
                           head_row<T>(a.grad_k, row, kv_head));
            store_gradient(grad_values + k * dim, keep_scale(),
                           head_row<T>(a.grad_v, row, kv_head));
        }
    }
    void store_gradient(const Real* from, Real scale, T* to) const {
        for (std::int64_t d = 0; d < problem.head_dim; d += kLanes<Real>) {
            const Vec<Real> value = load<Real>(from + d) * scale;
            if (d + kLanes<Real> <= problem.head_dim) {
                store<Real>(to + d, value);
            } else {
                store_partial<Real>(to + d, value, problem.head_dim - d);
            }
        }
    }

    // The chunk's dQ to rows of `to`: the gradient itself, or a partial sum.
    template <class Out>
    void store_queries(Out* to, std::int64_t stride) {
        const Real scale = static_cast<Real>(problem.scale_magnitude * problem.scale_sign);
        for (std::int64_t i = 0; i < kWidth; ++i) row_scale[i] = scale;
        for (std::int64_t p = 0; p < query_count; p += kWidth) {
            store_transposed<Real>(grad_queries + p * dim, min_of(kWidth, query_count - p),
                                   problem.head_dim, row_scale, to + (query_begin + p) * stride,
                                   stride);
        }
    }
};

template <class Mode>
struct BackwardPlan {
    using T = typename Mode::Storage;
    using Real = typename Mode::Real;

    const AttentionBackwardArguments& a;
    AttentionProblem problem;
    std::int64_t units, chunk_keys, chunks, dim;
    Real* partials = nullptr;  // [chunk][head][query row][dim] where there are several chunks

    explicit BackwardPlan(const AttentionBackwardArguments& arguments)
        : a(arguments),
          problem(arguments.forward),
          units(problem.sequences * problem.kv_heads),
          chunk_keys(
              attention_chunk_rows(problem.max_keys, units, problem.group, kBackwardTasks, 64)),
          chunks(max_of(1, ceil_divide(problem.max_keys, chunk_keys))),
          dim(padded_dim<Real>(problem.head_dim)) {}

    [[nodiscard]] std::int64_t partial_values() const {
        return chunks > 1 ? chunks * problem.heads * a.forward.q.sizes[0] * dim : 0;
    }
    [[nodiscard]] Real* partial(std::int64_t chunk, std::int64_t head, std::int64_t row) const {
        return partials + ((chunk * problem.heads + head) * a.forward.q.sizes[0] + row) * dim;
    }

    // The panels of queries that see any key of a chunk.
    struct Range {
        std::int64_t begin, end;
    };
    [[nodiscard]] Range queries_of(const AttentionSequence& sequence, std::int64_t chunk) const {
        const std::int64_t k0 = chunk * chunk_keys;
        const std::int64_t k1 = min_of(k0 + chunk_keys, sequence.keys);
        if (k0 >= k1) return {0, 0};
        const std::int64_t begin = sequence.first_query(k0) / kPanel<Real> * kPanel<Real>;
        const std::int64_t end = sequence.end_query(k1);
        return begin < end ? Range{begin, end} : Range{0, 0};
    }

    bool run(std::int64_t chunk, std::int64_t s, std::int64_t kv_head,
             RowPrefetch& prefetch) const {
        BackwardTask<Mode> task{a, problem, problem.sequence(s), kv_head, prefetch};
        const AttentionSequence& sequence = task.sequence;
        const Range queries = queries_of(sequence, chunk);
        const std::int64_t k0 = min_of(chunk * chunk_keys, sequence.keys);
        const std::int64_t k1 = min_of(k0 + chunk_keys, sequence.keys);
        // Keys before the window of every query: no gradient, no work.
        task.key_begin = sequence.queries > 0 ? min_of(k1, max_of(k0, sequence.first_key(0))) : k1;
        task.key_count = k1 - task.key_begin;
        zero_keys(sequence.key_begin + k0, task.key_begin - k0, kv_head);
        task.query_begin = queries.begin;
        task.query_count = queries.end - queries.begin;
        task.dim = dim;
        task.row_width = row_elements<Mode>(problem.head_dim);
        if (chunks == 1) zero_queries(sequence, kv_head, queries);
        if (task.key_count == 0) return true;
        Scratch scratch(task.carve(nullptr));
        if (!scratch.ok()) return false;
        task.carve(scratch.as<void>());
        task.pack_keys();
        for (std::int64_t g = 0; g < problem.group && task.query_count > 0; ++g) {
            const std::int64_t head = kv_head * problem.group + g;
            task.head(head);
            if (chunks == 1) {
                task.store_queries(head_row<T>(a.grad_q, sequence.query_begin, head),
                                   a.grad_q.strides[0]);
            } else {
                task.store_queries(partial(chunk, head, sequence.query_begin), dim);
            }
        }
        task.store_keys();
        return true;
    }

    void prefetch(std::int64_t unit, RowPrefetch& rows) const {
        const AttentionSequence sequence = problem.sequence(unit / problem.kv_heads);
        const std::int64_t kv_head = unit % problem.kv_heads, head = kv_head * problem.group;
        rows.add(a.forward.k, sequence.key_begin, sequence.keys, kv_head);
        rows.add(a.forward.v, sequence.key_begin, sequence.keys, kv_head);
        rows.add(a.forward.q, sequence.query_begin, sequence.queries, head);
        rows.add(a.grad_out, sequence.query_begin, sequence.queries, head);
        rows.add(a.forward.out, sequence.query_begin, sequence.queries, head);
        rows.add(a.grad_q, sequence.query_begin, sequence.queries, head);
        rows.add(a.grad_k, sequence.key_begin, sequence.keys, kv_head);
        rows.add(a.grad_v, sequence.key_begin, sequence.keys, kv_head);
    }

    void zero_keys(std::int64_t row, std::int64_t count, std::int64_t kv_head) const {
        const std::size_t bytes = static_cast<std::size_t>(problem.head_dim) * sizeof(T);
        for (std::int64_t i = 0; i < count; ++i) {
            std::memset(head_row<T>(a.grad_k, row + i, kv_head), 0, bytes);
            std::memset(head_row<T>(a.grad_v, row + i, kv_head), 0, bytes);
        }
    }

    // Rows of the sequence that no panel will write.
    void zero_queries(const AttentionSequence& sequence, std::int64_t kv_head,
                      Range written) const {
        for (std::int64_t i = 0; i < sequence.queries; ++i) {
            if (i >= written.begin && i < written.end) continue;
            for (std::int64_t g = 0; g < problem.group; ++g) {
                std::memset(
                    head_row<T>(a.grad_q, sequence.query_begin + i, kv_head * problem.group + g), 0,
                    static_cast<std::size_t>(problem.head_dim) * sizeof(T));
            }
        }
    }

    // Adds the chunks' dQ of one (sequence, head), in order.
    void add_partials(std::int64_t s, std::int64_t head) const {
        const AttentionSequence sequence = problem.sequence(s);
        for (std::int64_t i = 0; i < sequence.queries; ++i) {
            T* to = head_row<T>(a.grad_q, sequence.query_begin + i, head);
            for (std::int64_t d = 0; d < problem.head_dim; d += kLanes<Real>) {
                Vec<Real> sum = {};
                for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
                    const Range range = queries_of(sequence, chunk);
                    if (i < range.begin || i >= range.end) continue;
                    sum += load<Real>(partial(chunk, head, sequence.query_begin + i) + d);
                }
                store_partial<Real>(to + d, sum, min_of(kLanes<Real>, problem.head_dim - d));
            }
        }
    }
};

template <class Mode>
KernelStatus backward(const AttentionBackwardArguments& a) {
    using T = typename Mode::Storage;
    using Real = typename Mode::Real;
    BackwardPlan<Mode> plan(a);
    const AttentionProblem& problem = plan.problem;
    if (problem.heads == 0 || problem.kv_heads == 0) return kKernelOk;
    const std::int64_t last = problem.sequences;
    zero_rows_outside<T>(a.grad_q, last > 0 ? problem.offsets_q[0] : 0,
                         last > 0 ? problem.offsets_q[last * problem.offsets_q_stride] : 0);
    for (const TensorView* view : {&a.grad_k, &a.grad_v}) {
        zero_rows_outside<T>(*view, last > 0 ? problem.offsets_k[0] : 0,
                             last > 0 ? problem.offsets_k[last * problem.offsets_k_stride] : 0);
    }
    Scratch scratch(max_of(1, plan.partial_values() * static_cast<std::int64_t>(sizeof(Real))));
    if (!scratch.ok()) return kKernelOutOfMemory;
    plan.partials = scratch.as<Real>();
    int out_of_memory = 0;
    const std::int64_t tasks = plan.chunks * plan.units;
    parallel_for(tasks, attention_task_grain(tasks), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
            RowPrefetch prefetch;
            if (task + 1 < end) plan.prefetch((task + 1) % plan.units, prefetch);
            // Early chunks first: under a causal mask most queries see them.
            const std::int64_t unit = task % plan.units;
            if (!plan.run(task / plan.units, unit / problem.kv_heads, unit % problem.kv_heads,
                          prefetch)) {
                __atomic_store_n(&out_of_memory, 1, __ATOMIC_RELAXED);
            }
        }
    });
    if (out_of_memory != 0) return kKernelOutOfMemory;
    if (plan.chunks == 1) return kKernelOk;
    parallel_for(problem.sequences * problem.heads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            plan.add_partials(i / problem.heads, i % problem.heads);
    });
    return kKernelOk;
}

}  // namespace

KernelStatus attention_backward(const KernelContext& /*context*/,
                                const AttentionBackwardArguments& arguments) {
    switch (arguments.forward.q.dtype) {
        case DType::f32: return backward<RealMode<float>>(arguments);
#if defined(__AVX512BF16__)
        case DType::bf16: return backward<PairMode>(arguments);
#else
        case DType::bf16: return backward<RealMode<bfloat16>>(arguments);
#endif
#if TEMPRA_ISA_IS_baseline
        case DType::f64: return backward<RealMode<double>>(arguments);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
