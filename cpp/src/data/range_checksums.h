// CRC-32 of many byte ranges, which may overlap, in one pass over the bytes.
//
// The checksums of all beginnings that end where a range begins or ends are kept; that of a range
// follows from two of them: crc(A B) = shift(crc(A), |B|) xor crc(B).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tempra/io/crc32.h"

namespace tempra::data {

class RangeChecksums {
  public:
    // `bounds`: where ranges begin or end; any order, repeated or not, all within the bytes.
    RangeChecksums(std::span<const std::byte> bytes, std::vector<std::int64_t> bounds)
        : bounds_(std::move(bounds)) {
        bounds_.push_back(0);
        bounds_.push_back(std::ssize(bytes));
        std::sort(bounds_.begin(), bounds_.end());
        bounds_.erase(std::unique(bounds_.begin(), bounds_.end()), bounds_.end());
        prefixes_.reserve(bounds_.size());
        std::uint32_t checksum = 0;
        std::int64_t position = 0;
        for (const std::int64_t bound : bounds_) {
            checksum = io::crc32(bytes.data() + position, bound - position, checksum);
            position = bound;
            prefixes_.push_back(checksum);
        }
    }

    [[nodiscard]] std::uint32_t of(std::int64_t begin, std::int64_t end) const {
        return io::crc32_combine(prefix(begin), prefix(end), end - begin);
    }

  private:
    [[nodiscard]] std::uint32_t prefix(std::int64_t bound) const {
        const auto found = std::lower_bound(bounds_.begin(), bounds_.end(), bound);
        return prefixes_[static_cast<size_t>(found - bounds_.begin())];
    }

    std::vector<std::int64_t> bounds_;
    std::vector<std::uint32_t> prefixes_;
};

}  // namespace tempra::data
