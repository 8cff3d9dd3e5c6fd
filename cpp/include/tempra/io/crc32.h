// CRC-32 as zlib computes it (IEEE 802.3: reflected polynomial 0xEDB88320).
#pragma once

#include <cstdint>
#include <string>

namespace tempra::io {

// `previous`: the checksum of the bytes before these, 0 at the start.
[[nodiscard]] std::uint32_t crc32(const void* data, std::int64_t size, std::uint32_t previous = 0);

// Checksum of A followed by B, from crc32(A), crc32(B) and the length of B.
[[nodiscard]] std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second,
                                          std::int64_t second_size);

// Checksum of a whole file, read piece by piece (not mapped: a file that shrinks does no harm).
[[nodiscard]] std::uint32_t crc32_file(const std::string& path);

}  // namespace tempra::io
