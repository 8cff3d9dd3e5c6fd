// Philox4x32-10: a counter-based generator, so any element's random bits can be computed by any
// thread, again and again, from a few integers.
//
// J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
//
// Every function is static and always inlined: files compiled for different instruction sets
// include this header, and the linker must not merge their copies.
#pragma once

#include <cstdint>

namespace tempra {

// Four words: a counter going in, random bits coming out.
struct PhiloxBlock {
    std::uint32_t words[4];
};

inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53U;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57U;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9U;  // golden ratio
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85U;  // sqrt(3) - 1
inline constexpr int kPhiloxRounds = 10;

#define TEMPRA_PHILOX_INLINE [[maybe_unused]] [[gnu::always_inline]] static inline constexpr

TEMPRA_PHILOX_INLINE PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0,
                                               std::uint32_t key1) {
    std::uint32_t c0 = counter.words[0], c1 = counter.words[1];
    std::uint32_t c2 = counter.words[2], c3 = counter.words[3];
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * c0;
        const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * c2;
        const std::uint32_t next0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
        const std::uint32_t next2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
        c1 = static_cast<std::uint32_t>(product1);
        c3 = static_cast<std::uint32_t>(product0);
        c0 = next0;
        c2 = next2;
        key0 += kPhiloxWeyl0;
        key1 += kPhiloxWeyl1;
    }
    return {{c0, c1, c2, c3}};
}

// The library's counter layout: key = seed, counter = (element / 4, row, ordinal, step). Element e
// of a row takes word e % 4. `row` is the global row: PhiloxKey::row_offset is already added.
TEMPRA_PHILOX_INLINE PhiloxBlock philox_block(std::uint64_t seed, std::uint32_t step,
                                              std::uint32_t ordinal, std::uint32_t row,
                                              std::uint32_t element_block) {
    return philox4x32_10({{element_block, row, ordinal, step}}, static_cast<std::uint32_t>(seed),
                         static_cast<std::uint32_t>(seed >> 32));
}

// 24 random bits as a float in [0, 1).
TEMPRA_PHILOX_INLINE float philox_uniform(std::uint32_t word) {
    return static_cast<float>(word >> 8) * 0x1p-24F;
}

// 53 bits of two words as a double in [0, 1).
TEMPRA_PHILOX_INLINE double philox_uniform(std::uint32_t high, std::uint32_t low) {
    const std::uint64_t bits = (std::uint64_t{high} << 32) | low;
    return static_cast<double>(bits >> 11) * 0x1p-53;
}

// Dropout keeps an element when its word is at least this threshold: probability * 2^32, rounded.
TEMPRA_PHILOX_INLINE std::uint32_t philox_drop_threshold(double probability) {
    const double scaled = probability * 0x1p32 + 0.5;
    if (!(scaled > 0.0)) return 0;
    return scaled >= 0x1p32 ? 0xFFFFFFFFU : static_cast<std::uint32_t>(scaled);
}

#undef TEMPRA_PHILOX_INLINE

}  // namespace tempra
