// Large memory in large pages.
#pragma once

#include <cstdint>

namespace tempra::platform {

inline constexpr std::int64_t kHugePageBytes = std::int64_t{2} << 20;

// Asks for huge pages under this memory, which begins and ends at one. Filling fresh memory in
// small pages costs more than filling it a second time. Advice only: where the system has none,
// nothing changes.
void prefer_huge_pages(void* data, std::int64_t bytes) noexcept;

}  // namespace tempra::platform
