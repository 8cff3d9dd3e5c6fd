// Open rows by how much room they have, for finding the tightest one that still fits.
//
// A stack of rows for each amount of room (linked through one array), and a bitmap of the stacks
// that hold any. Room is a bounded integer, so a query reads a few words: 64 amounts to a word, and
// above it words of 64 words each, until one is left.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tempra::data {

class RowsByFreeSpace {
  public:
    explicit RowsByFreeSpace(std::int64_t capacity)
        : top_(static_cast<size_t>(capacity) + 1, kNone) {
        size_t bits = static_cast<size_t>(capacity) + 1;
        do {
            bits = (bits + 63) / 64;
            levels_.emplace_back(bits, 0);
        } while (bits > 1);
    }

    void push(std::uint32_t row, std::int64_t free) {
        if (row >= below_.size()) below_.resize(static_cast<size_t>(row) * 2 + 64);
        auto& top = top_[static_cast<size_t>(free)];
        below_[row] = top;
        if (top == kNone) mark(static_cast<size_t>(free));
        top = row;
    }
    // The last row pushed with this much room; there must be one.
    std::uint32_t pop(std::int64_t free) {
        auto& top = top_[static_cast<size_t>(free)];
        const std::uint32_t row = top;
        top = below_[row];
        if (top == kNone) unmark(static_cast<size_t>(free));
        return row;
    }
    // The least room, at least `needed`, that a row has; -1 when no row has that much.
    [[nodiscard]] std::int64_t tightest(std::int64_t needed) const {
        auto position = static_cast<size_t>(needed);
        for (size_t level = 0; level < levels_.size(); ++level) {
            const size_t word = position / 64;
            if (word >= levels_[level].size()) return -1;
            const std::uint64_t rest = levels_[level][word] >> (position % 64);
            if (rest != 0) {
                position += static_cast<size_t>(std::countr_zero(rest));
                while (level > 0) {
                    --level;
                    position = position * 64 +
                               static_cast<size_t>(std::countr_zero(levels_[level][position]));
                }
                return static_cast<std::int64_t>(position);
            }
            position = word + 1;
        }
        return -1;
    }

  private:
    static constexpr std::uint32_t kNone = 0xFFFFFFFFU;

    void mark(size_t position) {
        for (auto& level : levels_) {
            auto& word = level[position / 64];
            const bool was_empty = word == 0;
            word |= std::uint64_t{1} << (position % 64);
            if (!was_empty) return;
            position /= 64;
        }
    }
    void unmark(size_t position) {
        for (auto& level : levels_) {
            auto& word = level[position / 64];
            word &= ~(std::uint64_t{1} << (position % 64));
            if (word != 0) return;
            position /= 64;
        }
    }

    std::vector<std::uint32_t> top_;    // [capacity + 1]
    std::vector<std::uint32_t> below_;  // [rows]: the row under each one in its stack
    std::vector<std::vector<std::uint64_t>> levels_;
};

}  // namespace tempra::data
