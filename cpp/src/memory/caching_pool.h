// Caching allocator for tensor storage and kernel scratch on the CPU. Freed blocks are kept by size
// class and handed out again, so that a training step does not return to the operating system.
#pragma once

#include <cstdint>

namespace tempra {

struct MemoryStatistics {
    std::int64_t bytes_in_use = 0;  // handed out now
    std::int64_t peak_bytes_in_use = 0;
    std::int64_t bytes_reserved = 0;  // taken from the operating system, free blocks included
    std::int64_t peak_bytes_reserved = 0;
    std::int64_t allocations = 0;  // requests served since the start
};

// 64-byte aligned; null when the operating system refuses. `bytes` 0 gives a valid pointer.
[[nodiscard]] void* pool_allocate(std::int64_t bytes) noexcept;
void pool_release(void* block, std::int64_t bytes) noexcept;

[[nodiscard]] MemoryStatistics pool_statistics() noexcept;
void pool_reset_peak() noexcept;
// Gives free blocks back to the operating system.
void pool_trim() noexcept;

}  // namespace tempra
