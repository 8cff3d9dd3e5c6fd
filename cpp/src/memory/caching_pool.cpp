#include "memory/caching_pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "memory/scratch.h"
#include "platform/huge_pages.h"

namespace tempra {

namespace {

constexpr std::int64_t kAlignment = 64;

// Size classes: multiples of 64 up to 1 KiB, then eight steps per power of two (at most 12.5 %
// waste), numbered in this order.
struct SizeClass {
    std::int64_t bytes;
    std::size_t number;

    explicit SizeClass(std::int64_t wanted) {
        if (wanted <= 1024) {
            bytes = std::max(kAlignment, (wanted + 63) / 64 * 64);
            number = static_cast<std::size_t>(bytes / 64 - 1);
            return;
        }
        const auto size = static_cast<std::uint64_t>(wanted);
        const int top = 64 - std::countl_zero(size - 1);  // 11 and up
        const std::uint64_t step = std::uint64_t{1} << (top - 4);
        const std::uint64_t steps = (size + step - 1) / step;  // 9 to 16
        bytes = static_cast<std::int64_t>(steps * step);
        number = 16 + static_cast<std::size_t>(top - 11) * 8 + (steps - 9);
    }
    static constexpr std::size_t kNumbers = 16 + (63 - 10) * 8;
};

// Of a block this large or larger the whole huge pages are asked for as such: a product that walks
// a weight by columns, or the optimizer with its five streams, needs a new small page every few
// lines. The rest of a block is in small pages, so that no memory is taken beyond its end.
constexpr std::int64_t kHugeBlockBytes = 2 * platform::kHugePageBytes;

void* allocate_block(std::int64_t bytes) noexcept {
    const bool huge = bytes >= kHugeBlockBytes;
    void* block = nullptr;
    const std::int64_t alignment = huge ? platform::kHugePageBytes : kAlignment;
    if (posix_memalign(&block, static_cast<size_t>(alignment), static_cast<size_t>(bytes)) != 0) {
        return nullptr;
    }
    if (huge) {
        const std::int64_t pages = bytes / platform::kHugePageBytes;
        platform::prefer_huge_pages(block, pages * platform::kHugePageBytes);
    }
    return block;
}

class Pool {
  public:
    void* allocate(std::int64_t bytes) noexcept {
        const SizeClass size(bytes);
        const std::int64_t rounded = size.bytes;
        const std::scoped_lock lock(mutex_);
        if (std::vector<void*>& blocks = free_[size.number]; !blocks.empty()) {
            void* block = blocks.back();
            blocks.pop_back();
            count_in_use(rounded);
            return block;
        }
        void* block = allocate_block(rounded);
        if (block == nullptr) {
            trim_locked();
            block = allocate_block(rounded);
            if (block == nullptr) return nullptr;
        }
        statistics_.bytes_reserved += rounded;
        statistics_.peak_bytes_reserved =
            std::max(statistics_.peak_bytes_reserved, statistics_.bytes_reserved);
        count_in_use(rounded);
        return block;
    }

    void release(void* block, std::int64_t bytes) noexcept {
        const SizeClass size(bytes);
        const std::scoped_lock lock(mutex_);
        statistics_.bytes_in_use -= size.bytes;
        try {
            free_[size.number].push_back(block);
        } catch (...) {  // no memory to remember it: give it back
            std::free(block);
            statistics_.bytes_reserved -= size.bytes;
        }
    }

    MemoryStatistics statistics() noexcept {
        const std::scoped_lock lock(mutex_);
        return statistics_;
    }

    void reset_peak() noexcept {
        const std::scoped_lock lock(mutex_);
        statistics_.peak_bytes_in_use = statistics_.bytes_in_use;
        statistics_.peak_bytes_reserved = statistics_.bytes_reserved;
    }

    void trim() noexcept {
        const std::scoped_lock lock(mutex_);
        trim_locked();
    }

  private:
    void count_in_use(std::int64_t rounded) noexcept {
        statistics_.bytes_in_use += rounded;
        statistics_.peak_bytes_in_use =
            std::max(statistics_.peak_bytes_in_use, statistics_.bytes_in_use);
        ++statistics_.allocations;
    }

    void trim_locked() noexcept {
        for (std::vector<void*>& blocks : free_) {
            for (void* block : blocks) std::free(block);
            blocks.clear();
        }
        // What is not handed out was free.
        statistics_.bytes_reserved = statistics_.bytes_in_use;
    }

    std::mutex mutex_;
    std::array<std::vector<void*>, SizeClass::kNumbers> free_;  // by number
    MemoryStatistics statistics_;
};

// Never destroyed: tensors held by the interpreter may outlive static destructors.
Pool& pool() {
    static Pool* instance = new Pool;
    return *instance;
}

}  // namespace

void* pool_allocate(std::int64_t bytes) noexcept { return pool().allocate(bytes); }
void pool_release(void* block, std::int64_t bytes) noexcept { pool().release(block, bytes); }
MemoryStatistics pool_statistics() noexcept { return pool().statistics(); }
void pool_reset_peak() noexcept { pool().reset_peak(); }
void pool_trim() noexcept { pool().trim(); }

void* scratch_acquire(std::int64_t bytes) noexcept { return pool_allocate(bytes); }
void scratch_release(void* block, std::int64_t bytes) noexcept { pool_release(block, bytes); }

}  // namespace tempra
