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
#include "kernels/attention_backward_task.h"
#include "kernels/attention_problem.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {
namespace {

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
    const auto run = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
            RowPrefetch prefetch;
            if (task + 1 < end) plan.prefetch((task + 1) % plan.units, prefetch);
            const std::int64_t unit = task % plan.units;
            if (!plan.run(task / plan.units, unit / problem.kv_heads, unit % problem.kv_heads,
                          prefetch)) {
                __atomic_store_n(&out_of_memory, 1, __ATOMIC_RELAXED);
            }
        }
    };
    // Early chunks first: under a causal mask most queries see them.
    for_attention_tasks(plan.chunks > 1 && problem.causal, tasks, run);
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
