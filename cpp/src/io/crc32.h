// The implementations behind io::crc32, for tests that compare them.
#pragma once

#include <cstdint>

namespace tempra::io {

// All take and return the register as it is during the computation (not inverted).
[[nodiscard]] std::uint32_t crc32_portable(std::uint32_t state, const unsigned char* data,
                                           std::int64_t size);
[[nodiscard]] bool crc32_carryless_available();
[[nodiscard]] std::uint32_t crc32_carryless(std::uint32_t state, const unsigned char* data,
                                            std::int64_t size);

[[nodiscard]] bool crc32_wide_available();
[[nodiscard]] std::uint32_t crc32_wide(std::uint32_t state, const unsigned char* data,
                                       std::int64_t size);

}  // namespace tempra::io
