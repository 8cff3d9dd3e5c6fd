// One task of attention's backward pass: dK and dV of a chunk of keys of one kv head, and what the
// chunk adds to dQ (formulas and orders: attention_backward.cpp).
#pragma once

#include <cstring>

#include "kernels/attention_gradient_sinks.h"
#include "kernels/attention_pack.h"
#include "kernels/attention_problem.h"
#include "kernels/attention_softmax.h"
#include "kernels/attention_tile.h"
#include "memory/scratch.h"

namespace tempra::cpu::TEMPRA_ISA {

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

}  // namespace tempra::cpu::TEMPRA_ISA
