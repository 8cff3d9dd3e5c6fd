// Where the inner products of attention's backward pass go while they are in registers: scores
// become weights, their gradients dS, each written in the orders in which the next products read
// them (formulas and orders: attention_backward.cpp).
#pragma once

#include "kernels/attention_problem.h"
#include "kernels/attention_softmax.h"
#include "kernels/attention_tile.h"

namespace tempra::cpu::TEMPRA_ISA {

// Scores to weights: full precision for dS, rounded rows for dV.
template <class Mode, bool kMasked, bool kDropout>
struct WeightSink : ZeroStart<typename Mode::Real> {
    using Real = typename Mode::Real;
    static constexpr std::int64_t kWidth = kPanel<Real>;
    Real* weights;                        // [key][query]
    typename Mode::Element* weight_rows;  // the same, rounded, after dropout
    const Real* log_sum;                  // per query, base 2
    const Real* keep;
    Real factor;
    BlockMask<Real> mask;
    std::int64_t first_lane, key;

    template <int kRows, int kVectors>
    [[gnu::always_inline]] void end(std::int64_t m, Vec<Real> (&sums)[kRows][kVectors]) const {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t lane = first_lane + v * kLanes<Real>;
            const Vec<Real> reference = load<Real>(log_sum + lane);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                Vec<Real> weight = exp2_vector(sums[r][v] * factor - reference);
                if constexpr (kMasked) weight = mask.apply(key + m + r, lane, weight, Real(0));
                const std::int64_t at = (key + m + r) * kWidth + lane;
                store<Real>(weights + at, weight);
                if constexpr (kDropout) weight *= load<Real>(keep + at);
                if constexpr (Mode::kDepth == 2) {
                    store<Real>(reinterpret_cast<bfloat16*>(weight_rows) + at, weight);
                } else if constexpr (kDropout) {
                    store<Real>(weight_rows + at, weight);
                }
            }
        }
    }
};

// dP to dS, in both orders.
template <class Mode, bool kDropout>
struct ScoreGradientSink : ZeroStart<typename Mode::Real> {
    using Real = typename Mode::Real;
    static constexpr std::int64_t kWidth = kPanel<Real>;
    const Real* weights;
    typename Mode::Element *rows, *steps;  // [key][query] for dK, [key step][query] for dQ
    const Real* delta;
    const Real* keep;
    Real keep_scale;
    std::int64_t first_lane, key;

    template <int kRows, int kVectors>
    [[gnu::always_inline]] void end(std::int64_t m, Vec<Real> (&sums)[kRows][kVectors]) const {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t lane = first_lane + v * kLanes<Real>;
            const Vec<Real> shift = load<Real>(delta + lane);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const std::int64_t at = (key + m + r) * kWidth + lane;
                if constexpr (kDropout) sums[r][v] *= load<Real>(keep + at) * keep_scale;
                sums[r][v] = load<Real>(weights + at) * (sums[r][v] - shift);
                if constexpr (Mode::kDepth == 1) store<Real>(rows + at, sums[r][v]);
            }
            if constexpr (Mode::kDepth == 2) store_pairs(m, lane, v, sums);
        }
    }

    template <int kRows, int kVectors>
    [[gnu::always_inline]] void store_pairs(std::int64_t m, std::int64_t lane, int v,
                                            Vec<Real> (&sums)[kRows][kVectors]) const {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; r += 2) {
            const bool has_odd = r + 1 < kRows;
            const VecUint32 both =
                round_rows(sums[r][v], has_odd ? sums[has_odd ? r + 1 : r][v] : Vec<Real>{});
            HalfVecUint16 halves[2];
            std::memcpy(halves, &both, sizeof(halves));
            bfloat16* row = reinterpret_cast<bfloat16*>(rows) + (key + m + r) * kWidth + lane;
            std::memcpy(row, &halves[0], sizeof(halves[0]));
            if (has_odd) std::memcpy(row + kWidth, &halves[1], sizeof(halves[1]));
            const VecUint32 pair = interleave_rows(both);
            std::memcpy(steps + (key + m + r) / 2 * kWidth + lane, &pair, sizeof(pair));
        }
    }
};

}  // namespace tempra::cpu::TEMPRA_ISA
