#include "caching_allocator.h"

#include <algorithm>
#include <bit>

namespace tempra::cuda {

namespace {

constexpr std::int64_t kGranule = 512;  // keeps every block aligned for 16-byte and bulk access
constexpr std::int64_t kLinearClasses = 8 * 1024;
constexpr std::int64_t kLargestCut = std::int64_t{1} << 20;
constexpr std::int64_t kSlabBytes = std::int64_t{4} << 20;
constexpr std::int64_t kLargestRequest = std::int64_t{1} << 56;

// The largest free block that may serve a request of class `wanted`.
std::int64_t largest_acceptable(std::int64_t wanted) {
    return wanted <= kLargestCut ? wanted : wanted + wanted / 4;
}

std::string mebibytes(std::int64_t bytes) {
    if (bytes < 1024 * 1024) return std::to_string(bytes) + " bytes";
    const std::int64_t tenths = bytes / (1024 * 1024 / 10);
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " MiB";
}

}  // namespace

std::int64_t allocation_class(std::int64_t bytes) {
    if (bytes <= kLinearClasses) {
        return std::max(kGranule, (bytes + kGranule - 1) / kGranule * kGranule);
    }
    const int top = 64 - std::countl_zero(static_cast<std::uint64_t>(bytes - 1));
    const std::int64_t step = std::int64_t{1} << (top - 4);
    return (bytes + step - 1) / step * step;
}

void* CachingAllocator::allocate(std::int64_t bytes, StreamHandle stream, std::string& message) {
    if (bytes < 0 || bytes > kLargestRequest) {
        message = "device memory: " + std::to_string(bytes) + " bytes asked for";
        return nullptr;
    }
    const std::int64_t wanted = allocation_class(bytes);
    const std::scoped_lock lock(mutex_);
    collect_pending(false);
    Block block;
    const bool found = take_free(wanted, stream, block) ||
                       (wanted <= kLargestCut ? cut_slab(wanted, stream, block)
                                              : take_from_driver(wanted, stream, block));
    if (!found) {
        message = out_of_memory(bytes);
        return nullptr;
    }
    if (block.pool == 0) block.pool = pool_of(stream);
    block.requested = bytes;
    statistics_.bytes_requested += bytes;
    statistics_.bytes_in_use += block.bytes;
    statistics_.peak_bytes_in_use =
        std::max(statistics_.peak_bytes_in_use, statistics_.bytes_in_use + graph_bytes_);
    ++statistics_.allocations;
    void* const data = block.data;
    handed_out_.emplace(data, std::move(block));
    return data;
}

PoolHandle CachingAllocator::pool_of(StreamHandle stream) const {
    const auto found = capturing_.find(stream);
    return found == capturing_.end() ? 0 : found->second;
}

bool CachingAllocator::take_from(FreeLists& lists, std::int64_t wanted, Block& block) {
    const auto found = lists.lower_bound(wanted);
    if (found == lists.end() || found->first > largest_acceptable(wanted)) return false;
    block = std::move(found->second.back());
    found->second.pop_back();
    if (found->second.empty()) lists.erase(found);
    return true;
}

bool CachingAllocator::take_free(std::int64_t wanted, StreamHandle stream, Block& block) {
    const PoolHandle pool = pool_of(stream);
    if (pool != 0 && take_from(pools_[pool], wanted, block)) return true;
    if (!take_from(free_[stream], wanted, block)) return false;
    if (block.slab != nullptr) ++slabs_[block.slab].live_blocks;
    return true;
}

// The whole slab becomes blocks of one class, so that it is free again when they are.
bool CachingAllocator::cut_slab(std::int64_t wanted, StreamHandle stream, Block& block) {
    void* const slab = acquire(kSlabBytes);
    if (slab == nullptr) return false;
    slabs_[slab] = {kSlabBytes, 1};
    std::vector<Block>& list = free_[stream][wanted];
    for (std::int64_t count = kSlabBytes / wanted - 1; count > 0; --count) {
        Block piece;
        piece.data = static_cast<char*>(slab) + count * wanted;
        piece.bytes = wanted;
        piece.stream = stream;
        piece.slab = slab;
        list.push_back(std::move(piece));
    }
    block = {};
    block.data = slab;
    block.bytes = wanted;
    block.stream = stream;
    block.slab = slab;
    return true;
}

bool CachingAllocator::take_from_driver(std::int64_t wanted, StreamHandle stream, Block& block) {
    void* const data = acquire(wanted);
    if (data == nullptr) return false;
    block = {};
    block.data = data;
    block.bytes = wanted;
    block.stream = stream;
    return true;
}

void* CachingAllocator::acquire(std::int64_t bytes) {
    void* data = memory_.acquire(bytes);
    if (data == nullptr) {
        collect_pending(true);
        trim_locked();
        data = memory_.acquire(bytes);
        if (data == nullptr) return nullptr;
    }
    ++statistics_.driver_allocations;
    statistics_.bytes_reserved += bytes;
    statistics_.peak_bytes_reserved =
        std::max(statistics_.peak_bytes_reserved, statistics_.bytes_reserved);
    return data;
}

bool CachingAllocator::release(void* data) {
    const std::scoped_lock lock(mutex_);
    const auto found = handed_out_.find(data);
    if (found == handed_out_.end()) return false;
    Block block = std::move(found->second);
    handed_out_.erase(found);
    statistics_.bytes_requested -= block.requested;
    statistics_.bytes_in_use -= block.bytes;
    block.requested = 0;
    retire(std::move(block));
    return true;
}

// Streams up to now may still use the block.
void CachingAllocator::retire(Block block) {
    if (block.pool == 0) block.pool = pool_of(block.stream);
    Pending pending;
    // On a captured stream an event would become a part of the graph: such a user stays with the
    // block, and is asked when the pool gives it up.
    std::erase_if(block.other_users, [&](StreamHandle stream) {
        const PoolHandle pool = pool_of(stream);
        if (pool == 0) {
            pending.events.push_back(memory_.record_event(stream));
        } else if (block.pool == 0) {
            block.pool = pool;
        }
        return pool == 0;
    });
    if (pending.events.empty()) return make_free(std::move(block));
    statistics_.bytes_pending += block.bytes;
    pending.block = std::move(block);
    pending_.push_back(std::move(pending));
}

bool CachingAllocator::record_use(void* data, StreamHandle stream) {
    const std::scoped_lock lock(mutex_);
    const auto found = handed_out_.find(data);
    if (found == handed_out_.end()) return false;
    std::vector<StreamHandle>& users = found->second.other_users;
    if (stream != found->second.stream && std::ranges::find(users, stream) == users.end()) {
        users.push_back(stream);
    }
    return true;
}

void CachingAllocator::make_free(Block block) {
    const auto pool = pools_.find(block.pool);
    if (pool != pools_.end()) {
        const bool is_captured = std::ranges::any_of(
            capturing_, [&](const auto& entry) { return entry.second == block.pool; });
        if (!is_captured) graph_bytes_ += block.bytes;
        std::vector<Block>& list = pool->second[block.bytes];
        list.push_back(std::move(block));
        return;
    }
    block.pool = 0;
    if (!block.other_users.empty()) return retire(std::move(block));
    if (block.slab != nullptr) --slabs_[block.slab].live_blocks;
    std::vector<Block>& list = free_[block.stream][block.bytes];
    list.push_back(std::move(block));
}

// An event that could not be recorded never completes by itself: such a block waits for trim, where
// giving memory back waits for the device.
void CachingAllocator::collect_pending(bool wait) {
    std::vector<Block> done;
    std::erase_if(pending_, [&](Pending& pending) {
        std::erase_if(pending.events, [&](EventHandle event) {
            if (event == nullptr) return wait;
            if (wait) memory_.wait_for(event);
            if (!wait && !memory_.is_complete(event)) return false;
            memory_.destroy_event(event);
            return true;
        });
        if (!pending.events.empty()) return false;
        statistics_.bytes_pending -= pending.block.bytes;
        done.push_back(std::move(pending.block));
        return true;
    });
    for (Block& block : done) make_free(std::move(block));
    // One that another stream has used as well waits again; not for ever, as its users get fewer.
    if (wait && !done.empty() && !pending_.empty()) collect_pending(true);
}

void CachingAllocator::trim_locked() {
    for (auto& [stream, lists] : free_) {
        for (auto& [bytes, blocks] : lists) {
            std::erase_if(blocks, [&](const Block& block) {
                if (block.slab != nullptr) return slabs_[block.slab].live_blocks == 0;
                memory_.give_back(block.data, block.bytes);
                statistics_.bytes_reserved -= block.bytes;
                return true;
            });
        }
        std::erase_if(lists, [](const auto& entry) { return entry.second.empty(); });
    }
    std::erase_if(slabs_, [&](const auto& entry) {
        if (entry.second.live_blocks != 0) return false;
        memory_.give_back(entry.first, entry.second.bytes);
        statistics_.bytes_reserved -= entry.second.bytes;
        return true;
    });
}

std::int64_t CachingAllocator::free_bytes(const FreeLists& lists) {
    std::int64_t sum = 0;
    for (const auto& [bytes, blocks] : lists) {
        sum += bytes * static_cast<std::int64_t>(blocks.size());
    }
    return sum;
}

PoolHandle CachingAllocator::begin_pool(StreamHandle stream) {
    const std::scoped_lock lock(mutex_);
    const PoolHandle pool = ++last_pool_;
    pools_[pool];
    capturing_[stream] = pool;
    return pool;
}

void CachingAllocator::end_pool(StreamHandle stream) {
    const std::scoped_lock lock(mutex_);
    graph_bytes_ += free_bytes(pools_[pool_of(stream)]);
    capturing_.erase(stream);
}

// What is still handed out becomes its stream's when it is released.
void CachingAllocator::release_pool(PoolHandle pool) {
    const std::scoped_lock lock(mutex_);
    const auto found = pools_.find(pool);
    if (found == pools_.end()) return;
    FreeLists lists = std::move(found->second);
    pools_.erase(found);
    graph_bytes_ -= free_bytes(lists);
    for (auto& [data, block] : handed_out_) {
        if (block.pool == pool) block.pool = 0;
    }
    for (Pending& pending : pending_) {
        if (pending.block.pool == pool) pending.block.pool = 0;
    }
    for (auto& [bytes, blocks] : lists) {
        for (Block& block : blocks) make_free(std::move(block));
    }
}

AllocatorStatistics CachingAllocator::statistics() {
    const std::scoped_lock lock(mutex_);
    AllocatorStatistics now = statistics_;
    now.bytes_in_use += graph_bytes_;
    for (const auto& [stream, lists] : free_) {
        if (!lists.empty()) {
            now.largest_free_block = std::max(now.largest_free_block, lists.rbegin()->first);
        }
    }
    return now;
}

void CachingAllocator::reset_peak() {
    const std::scoped_lock lock(mutex_);
    statistics_.peak_bytes_in_use = statistics_.bytes_in_use + graph_bytes_;
    statistics_.peak_bytes_reserved = statistics_.bytes_reserved;
}

void CachingAllocator::trim() {
    const std::scoped_lock lock(mutex_);
    collect_pending(true);
    trim_locked();
}

std::string CachingAllocator::out_of_memory(std::int64_t asked) {
    return "out of device memory: " + mebibytes(asked) + " asked for; tensors hold " +
           mebibytes(statistics_.bytes_in_use + graph_bytes_) + " of " +
           mebibytes(statistics_.bytes_reserved) + " reserved here, and the device has " +
           mebibytes(memory_.free_bytes()) + " free of " + mebibytes(memory_.total_bytes()) +
           "; use a smaller batch or sequence, or activation recomputation";
}

}  // namespace tempra::cuda
