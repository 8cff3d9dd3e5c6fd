// The order in which samples are read: a keyed bijection of (seed, epoch), without an index array.
//
// A balanced Feistel network permutes the smallest even number of bits that holds `count`; results
// at or above `count` go through again until they fall below it (cycle walking), which keeps the
// map a bijection of 0 .. count-1. Every result is a function of (seed, epoch, index) alone, so any
// number of workers agree on it and any position can be asked for directly. The arithmetic is part
// of the checkpoint format: changing it changes what a resumed run reads.
#pragma once

#include <cstdint>

namespace tempra::data {

// One step of SplitMix64's output function: spreads every input bit over 64 output bits.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t value) noexcept {
    value += 0x9E3779B97F4A7C15U;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
}

// The key of everything that is shuffled in one epoch.
[[nodiscard]] constexpr std::uint64_t epoch_key(std::uint64_t seed, std::uint64_t epoch) noexcept {
    return mix(mix(seed) ^ mix(epoch ^ 0x5DEECE66DU));
}

class SampleOrder {
  public:
    // ConfigError unless 0 < count <= 2^62.
    SampleOrder(std::int64_t count, std::uint64_t seed, std::uint64_t epoch);

    [[nodiscard]] std::int64_t count() const noexcept { return count_; }

    // The sample at a position of the epoch; 0 <= index < count.
    [[nodiscard]] std::int64_t operator()(std::int64_t index) const noexcept {
        auto value = static_cast<std::uint64_t>(index);
        do value = encrypt(value);
        while (value >= static_cast<std::uint64_t>(count_));
        return static_cast<std::int64_t>(value);
    }
    // The position at which a sample is read.
    [[nodiscard]] std::int64_t inverse(std::int64_t sample) const noexcept {
        auto value = static_cast<std::uint64_t>(sample);
        do value = decrypt(value);
        while (value >= static_cast<std::uint64_t>(count_));
        return static_cast<std::int64_t>(value);
    }

  private:
    static constexpr int kRounds = 6;

    [[nodiscard]] std::uint64_t round(std::uint64_t half, std::uint64_t key) const noexcept {
        return mix(half ^ key) >> output_shift_;
    }
    [[nodiscard]] std::uint64_t encrypt(std::uint64_t value) const noexcept {
        std::uint64_t left = value >> half_bits_, right = value & half_mask_;
        for (const std::uint64_t key : keys_) {
            const std::uint64_t next = left ^ round(right, key);
            left = right;
            right = next;
        }
        return (left << half_bits_) | right;
    }
    [[nodiscard]] std::uint64_t decrypt(std::uint64_t value) const noexcept {
        std::uint64_t left = value >> half_bits_, right = value & half_mask_;
        for (int i = kRounds - 1; i >= 0; --i) {
            const std::uint64_t before = right ^ round(left, keys_[i]);
            right = left;
            left = before;
        }
        return (left << half_bits_) | right;
    }

    std::int64_t count_;
    int half_bits_;
    int output_shift_;
    std::uint64_t half_mask_;
    std::uint64_t keys_[kRounds];
};

}  // namespace tempra::data
