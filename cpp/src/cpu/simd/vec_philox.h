// Philox4x32-10 (random/philox.h) on vectors: kLanes<float> counters at a time, giving the words of
// 4 * kLanes<float> consecutive elements in element order, bit for bit those of the scalar form.
//
// Every word lives in a 64-bit lane whose upper half is never read: the widening product leaves its
// low half in place and its high half one shift away, and two independent sets of counters hide the
// product's latency. Counters are dealt to lanes such that one shift and one unpack instruction put
// the words in order, without crossing 128-bit groups.
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

// Products of the lower halves of 64-bit lanes.
inline VecUint64 multiply_low_halves(VecUint64 x, VecUint64 multiplier) {
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

// Within each 128-bit group: the first or the second 64 bits of a, then those of b.
inline VecUint32 unpack_first(VecUint64 a, VecUint64 b) {
#if defined(__AVX512F__)
    return vec_cast<VecUint32>(
        _mm512_maskz_unpacklo_epi64(0xFF, vec_cast<__m512i>(a), vec_cast<__m512i>(b)));
#elif defined(__AVX2__)
    return vec_cast<VecUint32>(_mm256_unpacklo_epi64(vec_cast<__m256i>(a), vec_cast<__m256i>(b)));
#else
    return vec_cast<VecUint32>(VecUint64{a[0], b[0]});
#endif
}
inline VecUint32 unpack_second(VecUint64 a, VecUint64 b) {
#if defined(__AVX512F__)
    return vec_cast<VecUint32>(
        _mm512_maskz_unpackhi_epi64(0xFF, vec_cast<__m512i>(a), vec_cast<__m512i>(b)));
#elif defined(__AVX2__)
    return vec_cast<VecUint32>(_mm256_unpackhi_epi64(vec_cast<__m256i>(a), vec_cast<__m256i>(b)));
#else
    return vec_cast<VecUint32>(VecUint64{a[1], b[1]});
#endif
}

// Lane 2q + s of set t holds counter (2t + s) * groups + q, of `groups` 128-bit groups.
inline VecUint64 counters_of_set(std::uint64_t set) {
    constexpr std::uint64_t kGroups = kLanes<float> / 4;
    VecUint64 counters = {};
    for (std::uint64_t q = 0; q < kGroups; ++q) {
        for (std::uint64_t s = 0; s < 2; ++s) counters[2 * q + s] = (2 * set + s) * kGroups + q;
    }
    return counters;
}

// The words of one set of counters; only the lower halves of lanes count.
struct Set {
    VecUint64 c0, c1, c2, c3;

    void round(VecUint64 key0, VecUint64 key1) {
        const VecUint64 product0 =
            multiply_low_halves(c0, VecUint64{} + std::uint64_t{kPhiloxMultiplier0});
        const VecUint64 product1 =
            multiply_low_halves(c2, VecUint64{} + std::uint64_t{kPhiloxMultiplier1});
        c0 = (product1 >> 32) ^ c1 ^ key0;
        c2 = (product0 >> 32) ^ c3 ^ key1;
        c1 = product1;
        c3 = product0;
    }
    void words(VecUint32& first, VecUint32& second) const {
        const VecUint64 low01 = (c0 & 0xFFFFFFFFU) | (c1 << 32);
        const VecUint64 low23 = (c2 & 0xFFFFFFFFU) | (c3 << 32);
        first = unpack_first(low01, low23);
        second = unpack_second(low01, low23);
    }
};

}  // namespace philox_detail

// The batch that starts at element 4 * element_block of a row; arguments as philox_block's.
inline PhiloxBatch philox_batch(std::uint64_t seed, std::uint32_t step, std::uint32_t ordinal,
                                std::uint32_t row, std::uint32_t element_block) {
    std::uint32_t key0 = static_cast<std::uint32_t>(seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
    const VecUint64 first = VecUint64{} + std::uint64_t{element_block};
    const VecUint64 c1 = VecUint64{} + std::uint64_t{row};
    const VecUint64 c2 = VecUint64{} + std::uint64_t{ordinal};
    const VecUint64 c3 = VecUint64{} + std::uint64_t{step};
    philox_detail::Set set0 = {philox_detail::counters_of_set(0) + first, c1, c2, c3};
    philox_detail::Set set1 = {philox_detail::counters_of_set(1) + first, c1, c2, c3};
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const VecUint64 wide_key0 = VecUint64{} + std::uint64_t{key0};
        const VecUint64 wide_key1 = VecUint64{} + std::uint64_t{key1};
        set0.round(wide_key0, wide_key1);
        set1.round(wide_key0, wide_key1);
        key0 += kPhiloxWeyl0;
        key1 += kPhiloxWeyl1;
    }
    PhiloxBatch batch;
    set0.words(batch.words[0], batch.words[1]);
    set1.words(batch.words[2], batch.words[3]);
    return batch;
}

}  // namespace tempra::cpu::TEMPRA_ISA
