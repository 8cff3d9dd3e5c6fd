// Stream-ordered caching allocator for one device's memory. Plain C++ over an interface, so that
// its logic is tested without a GPU.
//
// A block belongs to the stream it was allocated on. Released, it goes back to that stream's free
// list at once: work put on a stream later runs later. A block that other streams used as well
// waits for an event on each of them. Sizes are rounded up to classes (multiples of 512 bytes to 8
// KiB, then eight steps per power of two: at most 12.5 % waste). Requests up to 1 MiB are cut from
// slabs of 4 MiB; larger ones come from the driver, and a free block up to a quarter larger than
// wanted serves. When the driver refuses, free memory of all streams is given back, and it is asked
// again.
//
// While a stream is captured into a graph, what is allocated and released on it belongs to the
// graph's pool: its replays use those addresses, so nobody else gets them until the pool ends, and
// they count as in use.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tempra::cuda {

using StreamHandle = void*;
using EventHandle = void*;
using PoolHandle = std::uint64_t;  // 0: none

// The device calls the allocator needs. They do not throw.
class DeviceMemory {
  public:
    DeviceMemory() = default;
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    virtual ~DeviceMemory() = default;

    virtual void* acquire(std::int64_t bytes) noexcept = 0;  // null: refused
    // Waits until no stream uses the block.
    virtual void give_back(void* block, std::int64_t bytes) noexcept = 0;
    virtual std::int64_t free_bytes() noexcept = 0;
    virtual std::int64_t total_bytes() noexcept = 0;
    // An event after everything on `stream` so far; null when that failed.
    virtual EventHandle record_event(StreamHandle stream) noexcept = 0;
    virtual bool is_complete(EventHandle event) noexcept = 0;
    virtual void wait_for(EventHandle event) noexcept = 0;
    virtual void destroy_event(EventHandle event) noexcept = 0;
};

struct AllocatorStatistics {
    std::int64_t bytes_requested = 0, bytes_in_use = 0, peak_bytes_in_use = 0;
    std::int64_t bytes_reserved = 0, peak_bytes_reserved = 0, bytes_pending = 0;
    std::int64_t largest_free_block = 0;
    std::int64_t allocations = 0, driver_allocations = 0;

    // Share of reserved memory that no holder asked for.
    [[nodiscard]] double fragmentation() const {
        if (bytes_reserved == 0) return 0;
        return 1.0 - static_cast<double>(bytes_requested) / static_cast<double>(bytes_reserved);
    }
};

[[nodiscard]] std::int64_t allocation_class(std::int64_t bytes);

class CachingAllocator {
  public:
    // `memory` must outlive the allocator.
    explicit CachingAllocator(DeviceMemory& memory) : memory_(memory) {}
    CachingAllocator(const CachingAllocator&) = delete;
    CachingAllocator& operator=(const CachingAllocator&) = delete;
    ~CachingAllocator() = default;

    // Null when there is no memory: `message` then says what was asked, held and free. 0 bytes give
    // a valid pointer; negative sizes are refused.
    [[nodiscard]] void* allocate(std::int64_t bytes, StreamHandle stream, std::string& message);
    // False for a pointer that this allocator has not handed out.
    [[nodiscard]] bool release(void* block);
    [[nodiscard]] bool record_use(void* block, StreamHandle stream);

    // Between these two calls `stream` allocates from and releases to the pool, blocks that it was
    // given before too.
    [[nodiscard]] PoolHandle begin_pool(StreamHandle stream);
    void end_pool(StreamHandle stream);
    // The pool's blocks are free again, once other streams are done with them, or their holders'.
    // No replay may be under way.
    void release_pool(PoolHandle pool);

    [[nodiscard]] AllocatorStatistics statistics();
    void reset_peak();
    // Gives all free memory back to the driver; waits for blocks that other streams still use.
    void trim();

  private:
    struct Block {
        void* data = nullptr;
        std::int64_t bytes = 0;      // of its class
        std::int64_t requested = 0;  // 0 while free
        StreamHandle stream = nullptr;
        void* slab = nullptr;  // the slab it was cut from; null: taken from the driver as it is
        PoolHandle pool = 0;
        std::vector<StreamHandle> other_users;
    };
    struct Slab {
        std::int64_t bytes = 0, live_blocks = 0;  // handed out, pending or of a pool
    };
    struct Pending {
        Block block;
        std::vector<EventHandle> events;
    };
    using FreeLists = std::map<std::int64_t, std::vector<Block>>;

    [[nodiscard]] PoolHandle pool_of(StreamHandle stream) const;
    [[nodiscard]] static std::int64_t free_bytes(const FreeLists& lists);
    static bool take_from(FreeLists& lists, std::int64_t wanted, Block& block);
    bool take_free(std::int64_t wanted, StreamHandle stream, Block& block);
    bool cut_slab(std::int64_t wanted, StreamHandle stream, Block& block);
    bool take_from_driver(std::int64_t wanted, StreamHandle stream, Block& block);
    void* acquire(std::int64_t bytes);
    void retire(Block block);
    void make_free(Block block);
    void collect_pending(bool wait);
    void trim_locked();
    [[nodiscard]] std::string out_of_memory(std::int64_t asked);

    DeviceMemory& memory_;
    std::mutex mutex_;
    std::unordered_map<void*, Block> handed_out_;
    std::unordered_map<StreamHandle, FreeLists> free_;
    std::unordered_map<StreamHandle, PoolHandle> capturing_;
    std::unordered_map<PoolHandle, FreeLists> pools_;
    PoolHandle last_pool_ = 0;
    std::unordered_map<void*, Slab> slabs_;
    std::vector<Pending> pending_;
    std::int64_t graph_bytes_ = 0;  // free in pools whose capture is over: their graphs' to use
    AllocatorStatistics statistics_;
};

}  // namespace tempra::cuda
