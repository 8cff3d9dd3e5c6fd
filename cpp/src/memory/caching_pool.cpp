#include "memory/caching_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "memory/scratch.h"
#include "platform/huge_pages.h"

namespace tempra {

namespace {

constexpr std::int64_t kAlignment = 64;

// Size classes: multiples of 64 up to 1 KiB, then eight steps per power of two (at most 12.5 %
// waste).
std::int64_t size_class(std::int64_t bytes) {
    if (bytes <= 1024) return std::max(kAlignment, (bytes + 63) / 64 * 64);
    const int top = 64 - std::countl_zero(static_cast<std::uint64_t>(bytes - 1));
    const std::int64_t step = std::int64_t{1} << (top - 4);
    return (bytes + step - 1) / step * step;
}

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
        const std::int64_t rounded = size_class(bytes);
        const std::scoped_lock lock(mutex_);
        const auto found = free_.find(rounded);
        if (found != free_.end() && !found->second.empty()) {
            void* block = found->second.back();
            found->second.pop_back();
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
        const std::int64_t rounded = size_class(bytes);
        const std::scoped_lock lock(mutex_);
        statistics_.bytes_in_use -= rounded;
        try {
            free_[rounded].push_back(block);
        } catch (...) {  // no memory to remember it: give it back
            std::free(block);
            statistics_.bytes_reserved -= rounded;
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
        for (auto& [size, blocks] : free_) {
            for (void* block : blocks) {
                std::free(block);
                statistics_.bytes_reserved -= size;
            }
            blocks.clear();
        }
    }

    std::mutex mutex_;
    std::map<std::int64_t, std::vector<void*>> free_;
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
