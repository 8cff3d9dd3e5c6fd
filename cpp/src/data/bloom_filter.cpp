#include "tempra/data/bloom_filter.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "data/little_endian.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::int64_t kHeaderBytes = 5;
constexpr int kMaxProbes = 16;
constexpr double kFalsePositiveRate = 0.01;
constexpr std::int64_t kMaxBitBytes = 0xFFFFFFFF;

// Calls `visit` with the number of each bit that stands for `id`.
template <class Visit>
void for_each_bit(std::uint64_t id, int probes, std::uint64_t bit_count, const Visit& visit) {
    const std::uint64_t start = hash_id(id, 0);
    const std::uint64_t step = hash_id(id, 1);
    std::uint64_t place = start;
    for (int probe = 0; probe < probes; ++probe, place += step) {
        // The format reduces modulo 2^64 - 1 first.
        visit((place == ~std::uint64_t{0} ? 0 : place) % bit_count);
    }
}

}  // namespace

std::uint64_t hash_id(std::uint64_t id, std::uint64_t seed) {
    constexpr std::uint64_t kFactor = 0x9FB21C651E98DF25;
    const std::uint64_t low_word = __builtin_bswap32(static_cast<std::uint32_t>(seed));
    const std::uint64_t flip = 0xC73AB174C5ECD5A2 - (seed ^ (low_word << 32));
    std::uint64_t hash = std::rotl(id, 32) ^ flip;
    hash ^= std::rotl(hash, 49) ^ std::rotl(hash, 24);
    hash *= kFactor;
    hash ^= (hash >> 35) + 8;
    hash *= kFactor;
    return hash ^ (hash >> 28);
}

BloomFilterSize bloom_filter_size(std::uint64_t count, const std::string& source) {
    // In doubles and cut to whole numbers at these places, as the files' own writer does.
    const auto n = static_cast<double>(count);
    const double ln2 = std::log(2.0);
    const auto bits = static_cast<std::int64_t>(-n * std::log(kFalsePositiveRate) / (ln2 * ln2));
    const std::int64_t bytes = (bits + 7) / 8;
    TEMPRA_CHECK(FormatError, bytes <= kMaxBitBytes,
                 "{}: PayloadTooLarge: a bloom filter of {} ids needs {} bytes, at most {} fit",
                 source, count, bytes, kMaxBitBytes);
    const auto wanted = static_cast<int>(static_cast<double>(bits) / n * ln2);
    return {std::clamp(wanted, 1, kMaxProbes), bytes};
}

std::vector<std::byte> make_bloom_filter(const BloomFilterSize& size) {
    std::vector<std::byte> section(static_cast<size_t>(kHeaderBytes + size.bytes));
    store(section.data(), 0, static_cast<std::uint8_t>(size.probes));
    store(section.data(), 1, static_cast<std::uint32_t>(size.bytes));
    return section;
}

void insert_id(std::span<std::byte> section, std::uint64_t id) {
    const std::span<std::byte> bits = section.subspan(kHeaderBytes);
    for_each_bit(id, load<std::uint8_t>(section, 0), 8 * bits.size(),
                 [&](std::uint64_t bit) { bits[bit / 8] |= std::byte{1} << (bit % 8); });
}

bool BloomFilter::may_contain(std::uint64_t id) const {
    bool all = true;
    for_each_bit(id, probes, 8 * bits.size(), [&](std::uint64_t bit) {
        all = all && (bits[bit / 8] >> (bit % 8) & std::byte{1}) != std::byte{0};
    });
    return all;
}

BloomFilter parse_bloom_filter(std::span<const std::byte> section, const std::string& source) {
    const auto length = static_cast<std::int64_t>(section.size());
    TEMPRA_CHECK(FormatError, length >= kHeaderBytes,
                 "{}: InvalidBloomFilter: {} bytes, at least {} needed", source, length,
                 kHeaderBytes);
    const int probes = load<std::uint8_t>(section, 0);
    const std::int64_t bytes = load<std::uint32_t>(section, 1);
    TEMPRA_CHECK(FormatError, bytes > 0 && bytes == length - kHeaderBytes,
                 "{}: InvalidBloomFilter: says {} bytes of bits, has {}", source, bytes,
                 length - kHeaderBytes);
    TEMPRA_CHECK(FormatError, probes >= 1 && probes <= kMaxProbes,
                 "{}: InvalidBloomFilter: {} probes, 1 to {} are possible", source, probes,
                 kMaxProbes);
    return {probes, section.subspan(kHeaderBytes)};
}

}  // namespace tempra::data
