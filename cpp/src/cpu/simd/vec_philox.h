// Philox4x32-10 (random/philox.h) on vectors: kLanes<float> counters at a time, giving the words of
// 4 * kLanes<float> consecutive elements in element order, bit for bit those of the scalar form.
//
// The counters are dealt to lanes such that a 4 x 4 transposition within each 128-bit group, four
// unpack instructions and no crossing of groups, puts the words in order.
#pragma once

#include "random/philox.h"
#include "simd/vec.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace tempra::cpu::TEMPRA_ISA {

typedef std::uint64_t VecUint64 __attribute__((vector_size(kVectorBytes)));

// words[j] belongs to elements [j * kLanes<float>, (j + 1) * kLanes<float>) of the batch.
struct PhiloxBatch {
    VecUint32 words[4];
};
inline constexpr std::int64_t kPhiloxBatch = 4 * kLanes<float>;

namespace philox_detail {

// Products of the even 32-bit lanes with `multiplier`, 64 bits each.
inline VecUint64 multiply_even(VecUint64 x, VecUint64 multiplier) {
#if defined(__AVX512F__)
    return vec_cast<VecUint64>(
        _mm512_maskz_mul_epu32(0xFF, vec_cast<__m512i>(x), vec_cast<__m512i>(multiplier)));
#elif defined(__AVX2__)
    return vec_cast<VecUint64>(
        _mm256_mul_epu32(vec_cast<__m256i>(x), vec_cast<__m256i>(multiplier)));
#elif defined(__SSE2__)
    return vec_cast<VecUint64>(_mm_mul_epu32(vec_cast<__m128i>(x), vec_cast<__m128i>(multiplier)));
#else
    return (x & 0xFFFFFFFFU) * (multiplier & 0xFFFFFFFFU);
#endif
}

inline void multiply(VecUint32 x, std::uint32_t multiplier, VecUint32& high, VecUint32& low) {
    const VecUint64 factor = VecUint64{} + std::uint64_t{multiplier};
    const VecUint64 pairs = vec_cast<VecUint64>(x);
    const VecUint64 even = multiply_even(pairs, factor), odd = multiply_even(pairs >> 32, factor);
    constexpr std::uint64_t kHigh = 0xFFFFFFFF00000000U;
    high = vec_cast<VecUint32>((even >> 32) | (odd & kHigh));
    low = vec_cast<VecUint32>((even & ~kHigh) | (odd << 32));
}

// Within each 128-bit group: the first or last two elements of a and b, alternating.
template <int kWidth>
inline VecUint32 unpack_low(VecUint32 a, VecUint32 b) {
#if defined(__AVX512F__)
    const __m512i x = vec_cast<__m512i>(a), y = vec_cast<__m512i>(b);
    return vec_cast<VecUint32>(kWidth == 32 ? _mm512_maskz_unpacklo_epi32(0xFFFF, x, y)
                                            : _mm512_maskz_unpacklo_epi64(0xFF, x, y));
#elif defined(__AVX2__)
    const __m256i x = vec_cast<__m256i>(a), y = vec_cast<__m256i>(b);
    return vec_cast<VecUint32>(kWidth == 32 ? _mm256_unpacklo_epi32(x, y)
                                            : _mm256_unpacklo_epi64(x, y));
#else
    if constexpr (kWidth == 32) return VecUint32{a[0], b[0], a[1], b[1]};
    return VecUint32{a[0], a[1], b[0], b[1]};
#endif
}
template <int kWidth>
inline VecUint32 unpack_high(VecUint32 a, VecUint32 b) {
#if defined(__AVX512F__)
    const __m512i x = vec_cast<__m512i>(a), y = vec_cast<__m512i>(b);
    return vec_cast<VecUint32>(kWidth == 32 ? _mm512_maskz_unpackhi_epi32(0xFFFF, x, y)
                                            : _mm512_maskz_unpackhi_epi64(0xFF, x, y));
#elif defined(__AVX2__)
    const __m256i x = vec_cast<__m256i>(a), y = vec_cast<__m256i>(b);
    return vec_cast<VecUint32>(kWidth == 32 ? _mm256_unpackhi_epi32(x, y)
                                            : _mm256_unpackhi_epi64(x, y));
#else
    if constexpr (kWidth == 32) return VecUint32{a[2], b[2], a[3], b[3]};
    return VecUint32{a[2], a[3], b[2], b[3]};
#endif
}

// Lane 4q + s of a vector holds counter s * groups + q.
inline VecUint32 counter_of_lane() {
    constexpr std::uint32_t kGroups = kLanes<float> / 4;
    VecUint32 counters = {};
    for (std::uint32_t q = 0; q < kGroups; ++q) {
        for (std::uint32_t s = 0; s < 4; ++s) counters[4 * q + s] = s * kGroups + q;
    }
    return counters;
}

}  // namespace philox_detail

// The batch that starts at element 4 * element_block of a row; arguments as philox_block's.
inline PhiloxBatch philox_batch(std::uint64_t seed, std::uint32_t step, std::uint32_t ordinal,
                                std::uint32_t row, std::uint32_t element_block) {
    std::uint32_t key0 = static_cast<std::uint32_t>(seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
    VecUint32 c0 = philox_detail::counter_of_lane() + element_block;
    VecUint32 c1 = VecUint32{} + row, c2 = VecUint32{} + ordinal, c3 = VecUint32{} + step;
    for (int round = 0; round < kPhiloxRounds; ++round) {
        VecUint32 high0, low0, high1, low1;
        philox_detail::multiply(c0, kPhiloxMultiplier0, high0, low0);
        philox_detail::multiply(c2, kPhiloxMultiplier1, high1, low1);
        c0 = high1 ^ c1 ^ key0;
        c2 = high0 ^ c3 ^ key1;
        c1 = low1;
        c3 = low0;
        key0 += kPhiloxWeyl0;
        key1 += kPhiloxWeyl1;
    }
    const VecUint32 low01 = philox_detail::unpack_low<32>(c0, c1),
                    high01 = philox_detail::unpack_high<32>(c0, c1);
    const VecUint32 low23 = philox_detail::unpack_low<32>(c2, c3),
                    high23 = philox_detail::unpack_high<32>(c2, c3);
    return {{philox_detail::unpack_low<64>(low01, low23),
             philox_detail::unpack_high<64>(low01, low23),
             philox_detail::unpack_low<64>(high01, high23),
             philox_detail::unpack_high<64>(high01, high23)}};
}

}  // namespace tempra::cpu::TEMPRA_ISA
