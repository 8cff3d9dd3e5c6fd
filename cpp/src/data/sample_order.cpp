#include "tempra/data/sample_order.h"

#include <algorithm>
#include <bit>

#include "tempra/error.h"

namespace tempra::data {

namespace {

// Fewer bits than this leave a Feistel network too few distinct round functions to mix well.
constexpr int kSmallestHalf = 2;

}  // namespace

SampleOrder::SampleOrder(std::int64_t count, std::uint64_t seed, std::uint64_t epoch)
    : count_(count) {
    TEMPRA_CHECK(ConfigError, count > 0 && count <= std::int64_t{1} << 62,
                 "sample order: {} samples given, 1 to 2^62 needed", count);
    const auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(count - 1)));
    half_bits_ = std::max(kSmallestHalf, (bits + 1) / 2);
    half_mask_ = (std::uint64_t{1} << half_bits_) - 1;
    output_shift_ = 64 - half_bits_;
    const std::uint64_t key = epoch_key(seed, epoch);
    for (int i = 0; i < kRounds; ++i) keys_[i] = mix(key ^ static_cast<std::uint64_t>(i));
}

}  // namespace tempra::data
