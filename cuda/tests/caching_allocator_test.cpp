// The allocator's logic against a device that is a counter.
#include "caching_allocator.h"

#include <gtest/gtest.h>

#include <set>

namespace tempra::cuda {
namespace {

constexpr std::int64_t kMebibyte = 1 << 20;

// Hands out numbers as addresses, refuses beyond `capacity`, and completes events on request.
class FakeDevice final : public DeviceMemory {
  public:
    std::int64_t capacity = 64 * kMebibyte;
    std::int64_t held = 0;
    int acquisitions = 0, returns = 0, waits = 0;
    std::set<EventHandle> complete, live_events;
    bool events_fail = false;

    void* acquire(std::int64_t bytes) noexcept override {
        if (held + bytes > capacity) return nullptr;
        held += bytes;
        ++acquisitions;
        next_ += 1024 * kMebibyte;
        return reinterpret_cast<void*>(next_);
    }
    void give_back(void*, std::int64_t bytes) noexcept override {
        held -= bytes;
        ++returns;
    }
    std::int64_t free_bytes() noexcept override { return capacity - held; }
    std::int64_t total_bytes() noexcept override { return capacity; }
    EventHandle record_event(StreamHandle) noexcept override {
        if (events_fail) return nullptr;
        auto* const event = reinterpret_cast<EventHandle>(++events_);
        live_events.insert(event);
        return event;
    }
    bool is_complete(EventHandle event) noexcept override { return complete.contains(event); }
    void wait_for(EventHandle event) noexcept override {
        ++waits;
        complete.insert(event);
    }
    void destroy_event(EventHandle event) noexcept override { live_events.erase(event); }

  private:
    std::intptr_t next_ = 0, events_ = 0;
};

class Allocator : public testing::Test {
  protected:
    void* get(std::int64_t bytes, StreamHandle stream) {
        return allocator.allocate(bytes, stream, message);
    }

    FakeDevice device;
    CachingAllocator allocator{device};
    std::string message;
    StreamHandle one = reinterpret_cast<StreamHandle>(1), two = reinterpret_cast<StreamHandle>(2);
};

TEST(AllocationClass, WastesAtMostAnEighth) {
    EXPECT_EQ(allocation_class(0), 512);
    EXPECT_EQ(allocation_class(1), 512);
    EXPECT_EQ(allocation_class(513), 1024);
    EXPECT_EQ(allocation_class(kMebibyte), kMebibyte);
    std::int64_t before = 0;
    for (std::int64_t bytes = 1; bytes < 100 * kMebibyte; bytes += 1 + bytes / 7) {
        const std::int64_t rounded = allocation_class(bytes);
        EXPECT_GE(rounded, bytes);
        EXPECT_GE(rounded, before) << bytes;
        EXPECT_EQ(rounded % 512, 0) << bytes;
        EXPECT_EQ(allocation_class(rounded), rounded) << bytes;
        EXPECT_LE(8 * rounded, bytes > 8192 ? 9 * bytes + 8 : 8 * bytes + 8 * 512) << bytes;
        before = rounded;
    }
}

TEST_F(Allocator, ReusesABlockOnItsStreamAtOnce) {
    void* const first = get(5 * kMebibyte, one);
    ASSERT_NE(first, nullptr);
    EXPECT_TRUE(allocator.release(first));
    EXPECT_EQ(get(5 * kMebibyte, one), first);
    EXPECT_EQ(device.acquisitions, 1);
}

TEST_F(Allocator, DoesNotShareFreeBlocksBetweenStreams) {
    void* const first = get(5 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(first));
    EXPECT_NE(get(5 * kMebibyte, two), first);
    EXPECT_EQ(device.acquisitions, 2);
}

TEST_F(Allocator, ABlockAnotherStreamUsesWaitsForThatStream) {
    void* const first = get(5 * kMebibyte, one);
    EXPECT_TRUE(allocator.record_use(first, two));
    EXPECT_TRUE(allocator.record_use(first, two));  // once is enough
    EXPECT_TRUE(allocator.record_use(first, one));  // its own stream is ordered anyway
    EXPECT_TRUE(allocator.release(first));
    ASSERT_EQ(device.live_events.size(), 1U);
    EXPECT_EQ(allocator.statistics().bytes_pending, allocation_class(5 * kMebibyte));
    EXPECT_NE(get(5 * kMebibyte, one), first) << "handed out while stream two still uses it";
    device.complete.insert(*device.live_events.begin());
    EXPECT_EQ(get(5 * kMebibyte, one), first);
    EXPECT_TRUE(device.live_events.empty());
    EXPECT_EQ(allocator.statistics().bytes_pending, 0);
}

TEST_F(Allocator, ABlockWhoseEventFailedIsKeptUntilTrim) {
    void* const first = get(5 * kMebibyte, one);
    EXPECT_TRUE(allocator.record_use(first, two));
    device.events_fail = true;
    EXPECT_TRUE(allocator.release(first));
    EXPECT_NE(get(5 * kMebibyte, one), first);
    allocator.trim();
    EXPECT_EQ(device.returns, 1);
    EXPECT_EQ(allocator.statistics().bytes_pending, 0);
}

TEST_F(Allocator, SmallRequestsShareASlabWithoutOverlapping) {
    std::set<void*> blocks;
    for (int i = 0; i < 1000; ++i) blocks.insert(get(700, one));
    EXPECT_EQ(blocks.size(), 1000U);
    EXPECT_EQ(device.acquisitions, 1);
    std::intptr_t before = -1024;
    for (void* block : blocks) {
        EXPECT_GE(reinterpret_cast<std::intptr_t>(block) - before, 1024);
        before = reinterpret_cast<std::intptr_t>(block);
    }
}

TEST_F(Allocator, ASlightlyLargerFreeBlockServesAMuchLargerOneDoesNot) {
    void* const block = get(10 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(block));
    EXPECT_NE(get(2 * kMebibyte, one), block);
    EXPECT_EQ(get(9 * kMebibyte, one), block);
}

TEST_F(Allocator, GivesFreeMemoryBackBeforeItRefuses) {
    void* const first = get(40 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(first));
    EXPECT_NE(get(50 * kMebibyte, two), nullptr);
    EXPECT_EQ(device.returns, 1);
    EXPECT_EQ(get(30 * kMebibyte, one), nullptr);
}

TEST_F(Allocator, GivesPendingMemoryBackBeforeItRefuses) {
    void* const first = get(40 * kMebibyte, one);
    EXPECT_TRUE(allocator.record_use(first, two));
    EXPECT_TRUE(allocator.release(first));
    EXPECT_NE(get(50 * kMebibyte, one), nullptr);
    EXPECT_EQ(device.waits, 1);
    EXPECT_EQ(device.returns, 1);
}

TEST_F(Allocator, OutOfMemorySaysWhatWasAskedHeldAndFree) {
    ASSERT_NE(get(40 * kMebibyte, one), nullptr);
    EXPECT_EQ(get(30 * kMebibyte, one), nullptr);
    EXPECT_EQ(message,
              "out of device memory: 30.0 MiB asked for; tensors hold 40.0 MiB of 40.0 MiB "
              "reserved here, and the device has 24.0 MiB free of 64.0 MiB; use a smaller batch or "
              "sequence, or activation recomputation");
}

TEST_F(Allocator, TrimKeepsASlabThatIsStillInUse) {
    void* const kept = get(512, one);
    void* const freed = get(512, one);
    EXPECT_TRUE(allocator.release(freed));
    allocator.trim();
    EXPECT_EQ(device.returns, 0);
    EXPECT_EQ(get(512, one), freed);
    EXPECT_TRUE(allocator.release(freed));
    EXPECT_TRUE(allocator.release(kept));
    allocator.trim();
    EXPECT_EQ(device.returns, 1);
    EXPECT_EQ(device.held, 0);
    EXPECT_NE(get(512, one), nullptr);  // and the lists forgot it
    EXPECT_EQ(device.acquisitions, 2);
}

TEST_F(Allocator, CountsPeaksAndFragmentation) {
    void* const first = get(9 * kMebibyte, one);
    void* const second = get(3 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(first));
    AllocatorStatistics now = allocator.statistics();
    EXPECT_EQ(now.bytes_requested, 3 * kMebibyte);
    EXPECT_EQ(now.peak_bytes_in_use, 12 * kMebibyte);
    EXPECT_EQ(now.bytes_reserved, 12 * kMebibyte);
    EXPECT_EQ(now.largest_free_block, 9 * kMebibyte);
    EXPECT_DOUBLE_EQ(now.fragmentation(), 0.75);
    allocator.reset_peak();
    EXPECT_EQ(allocator.statistics().peak_bytes_in_use, 3 * kMebibyte);
    EXPECT_TRUE(allocator.release(second));
    allocator.trim();
    now = allocator.statistics();
    EXPECT_EQ(now.bytes_reserved, 0);
    EXPECT_EQ(now.fragmentation(), 0);
    EXPECT_EQ(now.peak_bytes_reserved, 12 * kMebibyte);
    EXPECT_EQ(now.allocations, 2);
}

TEST_F(Allocator, APoolKeepsWhatItsStreamTouches) {
    void* const before = get(5 * kMebibyte, one);
    const PoolHandle pool = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(before));
    void* const inside = get(5 * kMebibyte, one);
    EXPECT_EQ(inside, before) << "within the pool it is free";
    void* const small = get(512, one);
    void* const kept = get(7 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(inside));
    EXPECT_TRUE(allocator.release(small));
    allocator.end_pool(one);
    EXPECT_NE(get(5 * kMebibyte, one), inside);
    EXPECT_NE(get(512, one), small) << "another piece of the slab";
    EXPECT_TRUE(allocator.release(kept));
    EXPECT_NE(get(7 * kMebibyte, one), kept) << "released after the capture";
    const std::int64_t held = device.held;
    allocator.trim();
    EXPECT_EQ(device.held, held) << "a pool's memory is not given back";
    allocator.release_pool(pool);
    EXPECT_EQ(get(5 * kMebibyte, one), inside);
    EXPECT_EQ(get(7 * kMebibyte, one), kept);
}

TEST_F(Allocator, APoolsMemoryCountsAsInUse) {
    const PoolHandle pool = allocator.begin_pool(one);
    void* const passing = get(5 * kMebibyte, one);
    EXPECT_TRUE(allocator.release(passing));
    void* const kept = get(7 * kMebibyte, one);
    void* const other = get(6 * kMebibyte, two);
    EXPECT_TRUE(allocator.record_use(other, one));
    EXPECT_TRUE(allocator.release(other));
    allocator.end_pool(one);
    EXPECT_EQ(allocator.statistics().bytes_in_use, 18 * kMebibyte);
    EXPECT_TRUE(allocator.release(kept));
    EXPECT_EQ(allocator.statistics().bytes_in_use, 18 * kMebibyte) << "its launches write there";
    allocator.reset_peak();
    void* const after = get(5 * kMebibyte, one);
    EXPECT_EQ(allocator.statistics().peak_bytes_in_use, 23 * kMebibyte);
    EXPECT_TRUE(allocator.release(after));
    allocator.release_pool(pool);
    EXPECT_EQ(allocator.statistics().bytes_in_use, 0);
}

TEST_F(Allocator, APoolDoesNotWaitForEventsOfItsOwnStream) {
    void* const block = get(5 * kMebibyte, two);
    EXPECT_TRUE(allocator.record_use(block, one));
    const PoolHandle pool = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(block));
    EXPECT_TRUE(device.live_events.empty()) << "an event would be recorded into the graph";
    allocator.end_pool(one);
    EXPECT_NE(get(5 * kMebibyte, two), block);
    allocator.release_pool(pool);
    // What was put on stream one before the capture may still use it.
    EXPECT_NE(get(5 * kMebibyte, two), block);
    ASSERT_EQ(device.live_events.size(), 1U);
    device.complete.insert(*device.live_events.begin());
    EXPECT_EQ(get(5 * kMebibyte, two), block);
}

TEST_F(Allocator, ABlockPendingBesideAPoolOutlivesIt) {
    const StreamHandle three = reinterpret_cast<StreamHandle>(3);
    void* const block = get(5 * kMebibyte, two);
    EXPECT_TRUE(allocator.record_use(block, one));
    EXPECT_TRUE(allocator.record_use(block, three));
    const PoolHandle pool = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(block));
    ASSERT_EQ(device.live_events.size(), 1U) << "of stream three";
    allocator.end_pool(one);
    allocator.release_pool(pool);
    device.complete.insert(*device.live_events.begin());
    EXPECT_NE(get(5 * kMebibyte, two), block) << "stream one comes next";
    ASSERT_EQ(device.live_events.size(), 1U);
    device.complete.insert(*device.live_events.begin());
    EXPECT_EQ(get(5 * kMebibyte, two), block);
    EXPECT_EQ(allocator.statistics().bytes_pending, 0);
}

TEST_F(Allocator, TrimWaitsForAllUsersOfABlock) {
    void* const block = get(5 * kMebibyte, two);
    EXPECT_TRUE(allocator.record_use(block, one));
    EXPECT_TRUE(allocator.record_use(block, reinterpret_cast<StreamHandle>(3)));
    const PoolHandle pool = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(block));
    allocator.end_pool(one);
    allocator.release_pool(pool);
    allocator.trim();
    EXPECT_EQ(allocator.statistics().bytes_pending, 0);
    EXPECT_EQ(allocator.statistics().bytes_reserved, 0);
}

TEST_F(Allocator, ABlockThatAPoolHasFromAnotherStreamWaitsForThePools) {
    void* const block = get(5 * kMebibyte, two);
    EXPECT_TRUE(allocator.record_use(block, one));
    const PoolHandle pool = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(block));
    EXPECT_EQ(get(5 * kMebibyte, one), block);
    allocator.end_pool(one);
    allocator.release_pool(pool);
    EXPECT_TRUE(allocator.release(block));
    EXPECT_NE(get(5 * kMebibyte, two), block) << "handed out while stream one still uses it";
    ASSERT_EQ(device.live_events.size(), 1U);
    device.complete.insert(*device.live_events.begin());
    EXPECT_EQ(get(5 * kMebibyte, two), block);
}

TEST_F(Allocator, ABlockOutlivesItsPool) {
    const PoolHandle first = allocator.begin_pool(one);
    void* const block = get(5 * kMebibyte, one);
    allocator.end_pool(one);
    allocator.release_pool(first);
    const PoolHandle second = allocator.begin_pool(one);
    EXPECT_TRUE(allocator.release(block));
    allocator.end_pool(one);
    EXPECT_NE(get(5 * kMebibyte, one), block) << "the second pool's now";
    allocator.release_pool(second);
    EXPECT_EQ(get(5 * kMebibyte, one), block);
}

TEST_F(Allocator, RefusesWhatMakesNoSense) {
    EXPECT_EQ(get(-1, one), nullptr);
    EXPECT_EQ(message, "device memory: -1 bytes asked for");
    EXPECT_EQ(get(INT64_MAX, one), nullptr);
    int other = 0;
    EXPECT_FALSE(allocator.release(&other));
    EXPECT_FALSE(allocator.record_use(&other, one));
    void* const block = get(10, one);
    EXPECT_TRUE(allocator.release(block));
    EXPECT_FALSE(allocator.release(block)) << "released twice";
}

}  // namespace
}  // namespace tempra::cuda
