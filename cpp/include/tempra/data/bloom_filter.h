// Bloom filters over record ids, as WDBX files hold them: u8 number of probes, u32 bytes of the bit
// array, the bit array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tempra::data {

// XXH3's 64-bit hash of the eight bytes of `id`, little-endian.
[[nodiscard]] std::uint64_t hash_id(std::uint64_t id, std::uint64_t seed);

struct BloomFilterSize {
    int probes = 0;
    std::int64_t bytes = 0;  // of the bit array
};
// For `count` ids, at least 1, and one false answer in a hundred. FormatError, naming `source`,
// when the bit array would have more than 2^32 - 1 bytes.
[[nodiscard]] BloomFilterSize bloom_filter_size(std::uint64_t count, const std::string& source);

// An empty filter's section: probes, size, zeros.
[[nodiscard]] std::vector<std::byte> make_bloom_filter(const BloomFilterSize& size);
// `section`: as made by make_bloom_filter or checked by parse_bloom_filter.
void insert_id(std::span<std::byte> section, std::uint64_t id);

// A section of a file, which must outlive this.
struct BloomFilter {
    int probes = 0;
    std::span<const std::byte> bits;

    // False: certainly absent. True proves nothing.
    [[nodiscard]] bool may_contain(std::uint64_t id) const;
};
// FormatError (InvalidBloomFilter) naming `source`.
[[nodiscard]] BloomFilter parse_bloom_filter(std::span<const std::byte> section,
                                             const std::string& source);

}  // namespace tempra::data
