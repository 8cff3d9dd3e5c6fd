// The scalar functions of attention on vectors: 2^x, visibility masks, dropout masks.
#pragma once

#include "kernels/attention_problem.h"
#include "kernels/attention_tile.h"
#include "random/philox.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

template <class Real>
inline constexpr Real kInfinity = static_cast<Real>(__builtin_inff());

// 2^x for x below 127, relative error 1e-7 (minimax polynomial of degree 5, from a Remez fit);
// 0 below -126, NaN stays NaN. With AVX-512 the split into whole and fraction is one instruction.
[[gnu::always_inline]] inline VecFloat exp2_vector(VecFloat x) {
#if defined(__AVX512F__)
    // max(low, x) takes its second operand when either is NaN. The masked forms, all lanes on, are
    // the same instructions without the undefined operand that GCC 12 warns about.
    const __m512 low = vec_cast<__m512>(broadcast<float>(-200.0F));
    const __m512 y = _mm512_maskz_max_ps(0xFFFF, low, vec_cast<__m512>(x));
    const VecFloat r = vec_cast<VecFloat>(_mm512_maskz_reduce_ps(0xFFFF, y, _MM_FROUND_TO_NEG_INF));
    VecFloat p = broadcast<float>(1.8775766734e-3F);
    p = p * r + 8.9893400947e-3F;
    p = p * r + 5.5826318050e-2F;
    p = p * r + 2.4015361705e-1F;
    p = p * r + 6.9315307320e-1F;
    p = p * r + 9.9999992506e-1F;
    return vec_cast<VecFloat>(_mm512_maskz_scalef_ps(0xFFFF, vec_cast<__m512>(p), y));
#else
    const VecFloat low = broadcast<float>(-126.0F);
    const VecFloat y = x < low ? low : x;
    const VecFloat magic = broadcast<float>(12582912.0F);  // 1.5 * 2^23: leaves no fraction bits
    const VecFloat shifted = y + magic;
    const VecFloat r = y - (shifted - magic);
    VecFloat p = broadcast<float>(1.3276471979e-3F);
    p = p * r + 9.6755413342e-3F;
    p = p * r + 5.5507132735e-2F;
    p = p * r + 2.4022119724e-1F;
    p = p * r + 6.9314696706e-1F;
    p = p * r + 1.0000000717e+0F;
    // Unsigned: the sum wraps for NaN and where x is below `low`, both masked after it.
    p = vec_cast<VecFloat>(vec_cast<VecUint32>(p) + (vec_cast<VecUint32>(shifted) << 23));
    p = x < low ? VecFloat{} : p;
    return x != x ? x : p;
#endif
}
[[gnu::always_inline]] inline VecDouble exp2_vector(VecDouble x) {
    double lanes[kLanes<double>];
    std::memcpy(lanes, &x, sizeof(x));
    for (double& lane : lanes) lane = __builtin_exp2(lane);
    std::memcpy(&x, lanes, sizeof(x));
    return x;
}

inline float log2_scalar(float x) { return __builtin_log2f(x); }
inline double log2_scalar(double x) { return __builtin_log2(x); }

// Which queries of a block see a key: those with lower <= lane - key < upper, where both count from
// the block's first query and first key.
template <class Real>
struct BlockMask {
    std::int32_t lower, upper;

    [[gnu::always_inline]] Vec<Real> apply(std::int64_t key, std::int64_t first_lane,
                                           const Vec<Real>& value, Real masked) const {
        VecInteger<Real> lane;
#pragma GCC unroll 16
        for (int i = 0; i < kLanes<Real>; ++i) lane[i] = i;
        const auto base = static_cast<decltype(lane[0] + 0)>(key - first_lane);
        const VecInteger<Real> from = VecInteger<Real>{} + (base + lower);
        const VecInteger<Real> to = VecInteger<Real>{} + (base + upper);
        return ((lane >= from) & (lane < to)) ? value : broadcast<Real>(masked);
    }
};

// For the block whose first query and key are q0 and k0: key k is seen by queries i of
// k - shift <= i < k - shift + window.
template <class Real>
BlockMask<Real> block_mask(const AttentionSequence& sequence, std::int64_t q0, std::int64_t k0) {
    const std::int64_t lower = k0 - sequence.shift - q0;
    const std::int64_t upper = sequence.window > 0 ? lower + sequence.window : INT32_MAX / 2;
    return {static_cast<std::int32_t>(lower),
            static_cast<std::int32_t>(min_of(upper, INT32_MAX / 2))};
}

// Where the random words of one (sequence, head) start; see AttentionArguments.
struct DropoutPosition {
    PhiloxKey key;
    std::uint32_t row;      // of the sequence's first query
    std::uint64_t element;  // of the sequence's first key
    std::uint32_t threshold;
};

inline DropoutPosition dropout_position(const AttentionProblem& problem,
                                        const AttentionSequence& sequence, std::int64_t head) {
    return {problem.dropout_key,
            problem.dropout_key.row_offset + static_cast<std::uint32_t>(sequence.query_begin),
            static_cast<std::uint64_t>(head) * static_cast<std::uint64_t>(kDropoutKeys),
            philox_drop_threshold(problem.dropout_probability)};
}

// keep[k][lane] = 1 or 0 for keys [key, key + keys) and `lanes` (a multiple of the vector) queries.
// Written lane by lane over plain arrays, which compilers turn into vectors.
template <class Real>
void fill_dropout_mask(const DropoutPosition& position, std::int64_t query, std::int64_t key,
                       std::int64_t keys, std::int64_t lanes, std::int64_t ld, Real* keep) {
    constexpr int kBatch = 16;
    const std::uint64_t first = position.element + static_cast<std::uint64_t>(key);
    const std::uint64_t last = first + static_cast<std::uint64_t>(keys);
    for (std::int64_t lane = 0; lane < lanes; lane += kBatch) {
        const std::int64_t count = lanes - lane < kBatch ? lanes - lane : kBatch;
        for (std::uint64_t block = first / 4; block * 4 < last; ++block) {
            std::uint32_t words[4][kBatch];
            for (int i = 0; i < kBatch; ++i) {
                const PhiloxBlock bits =
                    philox_block(position.key.seed, position.key.step, position.key.ordinal,
                                 position.row + static_cast<std::uint32_t>(query + lane + i),
                                 static_cast<std::uint32_t>(block));
                for (int w = 0; w < 4; ++w) words[w][i] = bits.words[w];
            }
            for (std::uint64_t w = 0; w < 4; ++w) {
                const std::uint64_t element = block * 4 + w;
                if (element < first || element >= last) continue;
                Real* row = keep + static_cast<std::int64_t>(element - first) * ld + lane;
                for (std::int64_t i = 0; i < count; ++i) {
                    row[i] = words[w][i] >= position.threshold ? Real(1) : Real(0);
                }
            }
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
