// What attention's forward, decoding and backward kernels agree on: who sees whom, and how the work
// is cut into tasks. Everything here depends on shapes alone, so results do not depend on threads.
#pragma once

#include <cstdint>

#include "dispatch/kernel_table.h"
#include "simd/vec.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

inline std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t max_of(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
inline std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_divide(a, b) * b; }

// One sequence: query rows [query_begin, query_begin + queries), key rows likewise. Query i sees
// the keys [first_key(i), end_key(i)), both non-decreasing in i; positions count within the
// sequence.
struct AttentionSequence {
    std::int64_t query_begin, queries, key_begin, keys;
    std::int64_t shift;   // causal: query i is at key position i + shift
    std::int64_t window;  // 0: unlimited
    bool causal;

    [[nodiscard]] std::int64_t end_key(std::int64_t i) const {
        return causal ? max_of(0, min_of(keys, i + shift + 1)) : keys;
    }
    [[nodiscard]] std::int64_t first_key(std::int64_t i) const {
        if (window == 0) return 0;
        return max_of(0, (causal ? i + shift + 1 : keys) - window);
    }
    // The queries [first_query, end_query) are all those that see any key of [k0, k1).
    [[nodiscard]] std::int64_t first_query(std::int64_t k0) const {
        return causal ? min_of(queries, max_of(0, k0 - shift)) : 0;
    }
    [[nodiscard]] std::int64_t end_query(std::int64_t k1) const {
        if (window == 0) return queries;
        if (!causal) return keys - window < k1 ? queries : 0;
        return max_of(0, min_of(queries, k1 - 1 - shift + window));
    }
};

struct AttentionProblem {
    std::int64_t heads, kv_heads, group, head_dim, sequences;
    std::int64_t max_queries, max_keys;
    const std::int32_t *offsets_q, *offsets_k;
    std::int64_t offsets_q_stride, offsets_k_stride;
    double scale_magnitude, scale_sign;  // their product is the scale, except that 0 is 1 * 0
    double dropout_probability;
    PhiloxKey dropout_key;
    std::int64_t window;
    bool causal;

    explicit AttentionProblem(const AttentionArguments& a)
        : heads(a.q.size(1)),
          kv_heads(a.k.size(1)),
          group(kv_heads > 0 ? heads / kv_heads : 0),
          head_dim(a.q.size(2)),
          sequences(a.offsets_q.size(0) - 1),
          max_queries(a.max_query_length),
          max_keys(a.max_key_length),
          offsets_q(a.offsets_q.as<const std::int32_t>()),
          offsets_k(a.offsets_k.as<const std::int32_t>()),
          offsets_q_stride(a.offsets_q.stride(0)),
          offsets_k_stride(a.offsets_k.stride(0)),
          scale_magnitude(a.scale == 0 ? 1.0 : (a.scale < 0 ? -a.scale : a.scale)),
          scale_sign(a.scale == 0 ? 0.0 : (a.scale < 0 ? -1.0 : 1.0)),
          dropout_probability(a.dropout_probability),
          dropout_key(a.dropout_key),
          window(a.window > 0 ? a.window : 0),
          causal(a.causal != 0) {}

    [[nodiscard]] AttentionSequence sequence(std::int64_t s) const {
        AttentionSequence result{};
        result.query_begin = offsets_q[s * offsets_q_stride];
        result.queries = offsets_q[(s + 1) * offsets_q_stride] - result.query_begin;
        result.key_begin = offsets_k[s * offsets_k_stride];
        result.keys = offsets_k[(s + 1) * offsets_k_stride] - result.key_begin;
        result.shift = result.keys - result.queries;
        result.window = window;
        result.causal = causal;
        return result;
    }
};

// Enough tasks for a many-core machine when there are few heads; a whole head a task otherwise.
inline constexpr std::int64_t kForwardTasks = 64, kBackwardTasks = 32;
// A task packs all the keys it sees, which must pay off over at least this many query rows.
inline constexpr std::int64_t kMinimumChunkRows = 256;

// Rows of one chunk when `rows` rows of each of `units` independent units (of `reuse` heads) are
// cut.
inline std::int64_t attention_chunk_rows(std::int64_t rows, std::int64_t units, std::int64_t reuse,
                                         std::int64_t tasks, std::int64_t block) {
    const std::int64_t chunks = max_of(1, ceil_divide(tasks, max_of(1, units)));
    const std::int64_t smallest = ceil_divide(kMinimumChunkRows, max_of(1, reuse));
    return round_up(max_of(ceil_divide(max_of(1, rows), chunks), smallest), block);
}

// The base of row `row`, head `head` of a [tokens, heads, head_dim] view.
template <class T>
inline T* head_row(const TensorView& view, std::int64_t row, std::int64_t head) {
    return view.as<T>() + row * view.strides[0] + head * view.strides[1];
}

// log_sum_exp is f32, or f64 beside f64 tensors, where f32 would spoil the recomputed weights.
template <class Real>
inline Real load_statistic(const TensorView& view, std::int64_t head, std::int64_t row) {
    const std::int64_t at = head * view.strides[0] + row * view.strides[1];
    if (view.dtype == DType::f64) return static_cast<Real>(view.as<const double>()[at]);
    return static_cast<Real>(view.as<const float>()[at]);
}
template <class Real>
inline void store_statistic(const TensorView& view, std::int64_t head, std::int64_t row,
                            Real value) {
    const std::int64_t at = head * view.strides[0] + row * view.strides[1];
    if (view.dtype == DType::f64) {
        view.as<double>()[at] = static_cast<double>(value);
    } else {
        view.as<float>()[at] = static_cast<float>(value);
    }
}

// Zeros the rows that belong to no sequence (padding of a packed batch).
template <class T>
inline void zero_rows_outside(const TensorView& view, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = 0; row < view.sizes[0]; ++row) {
        if (row == begin) row = end;
        if (row >= view.sizes[0]) break;
        for (std::int64_t head = 0; head < view.sizes[1]; ++head) {
            std::memset(head_row<T>(view, row, head), 0,
                        static_cast<std::size_t>(view.sizes[2]) * sizeof(T));
        }
    }
}

// Hands out aligned pieces of one scratch block; with a null base it only adds up the sizes.
class ScratchCarver {
  public:
    explicit ScratchCarver(void* base) : base_(static_cast<char*>(base)) {}
    template <class T>
    T* take(std::int64_t count) {
        T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += round_up(count * static_cast<std::int64_t>(sizeof(T)), 64);
        return piece;
    }
    [[nodiscard]] std::int64_t used() const { return used_; }

  private:
    char* base_;
    std::int64_t used_ = 0;
};

// Brings the rows that the next task will read or write into the second-level cache, a few at a
// time during the arithmetic of this one: one head's rows lie far apart, beyond the hardware's own
// prefetching.
class RowPrefetch {
  public:
    void add(const TensorView& view, std::int64_t row, std::int64_t count, std::int64_t head) {
        const std::int64_t size = size_of(view.dtype);
        lists_[lists_used_++] = {static_cast<const char*>(view.data) +
                                     (row * view.strides[0] + head * view.strides[1]) * size,
                                 view.strides[0] * size, view.sizes[2] * size,
                                 min_of(count, kMaximumRows)};
    }
    void advance() {
        std::int64_t budget = kRowsAtOnce;
        while (list_ < lists_used_ && budget > 0) {
            const List& list = lists_[list_];
            for (; row_ < list.rows && budget > 0; ++row_, --budget) {
                const char* begin = list.base + row_ * list.stride;
                for (std::int64_t byte = 0; byte < list.bytes; byte += 64) {
                    __builtin_prefetch(begin + byte, 0, 2);
                }
            }
            if (row_ < list.rows) return;
            row_ = 0;
            ++list_;
        }
    }

  private:
    static constexpr std::int64_t kMaximumRows = 512, kRowsAtOnce = 256;
    struct List {
        const char* base;
        std::int64_t stride, bytes, rows;
    };
    List lists_[8];
    int lists_used_ = 0, list_ = 0;
    std::int64_t row_ = 0;
};

// Runs the tasks, several in a row on one thread so that each can prefetch for the next. Under a
// causal mask chunks of a sequence are of unequal work, and the longest should be begun first.
// Otherwise a thread had better get the rows that it has in other kernels.
template <class Body>
void for_attention_tasks(bool unequal, std::int64_t tasks, const Body& body) {
    const std::int64_t grain = max_of(1, min_of(8, tasks / 64));
    if (unequal) {
        parallel_for_in_order(tasks, grain, body);
    } else {
        parallel_for(tasks, grain, body);
    }
}

KernelStatus attention(const KernelContext& context, const AttentionArguments& arguments);
KernelStatus attention_backward(const KernelContext& context,
                                const AttentionBackwardArguments& arguments);
// Few queries against many keys; false where the shapes are not for it.
bool is_decoding(const AttentionArguments& arguments);
KernelStatus attention_decode(const AttentionArguments& arguments);

}  // namespace tempra::cpu::TEMPRA_ISA
