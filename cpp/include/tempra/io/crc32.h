// CRC-32 as zlib computes it (IEEE 802.3: reflected polynomial 0xEDB88320).
#pragma once

#include <cstdint>

namespace tempra::io {

// `previous`: the checksum of the bytes before these, 0 at the start.
[[nodiscard]] std::uint32_t crc32(const void* data, std::int64_t size, std::uint32_t previous = 0);

// Checksum of A followed by B, from crc32(A), crc32(B) and the length of B.
[[nodiscard]] std::uint32_t crc32_combine(std::uint32_t first, std::uint32_t second,
                                          std::int64_t second_size);

}  // namespace tempra::io
