// Page-locked buffers over a device whose copies end when the test says so.
#include "memory/pinned_stage.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <vector>

namespace tempra {
namespace {

// What the library's functions, which carry no state of their own, act on.
struct SlowDevice {
    std::vector<const void*> sources;  // of each copy, in order
    std::set<void*> events, complete;
    std::vector<void*> waited_for;
    int buffers = 0;
} device;

TempraCudaLibrary slow_library() {
    device = {};
    TempraCudaLibrary library{};
    library.allocate_pinned = [](std::int64_t bytes, void** out) {
        *out = std::malloc(static_cast<std::size_t>(bytes));
        ++device.buffers;
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.release_pinned = [](void* block) {
        std::free(block);
        --device.buffers;
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.event_create = [](void** event) {
        *event = std::malloc(1);
        device.events.insert(*event);
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.event_destroy = [](void* event) {
        device.events.erase(event);
        std::free(event);
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.event_record = [](void* event, void*) {
        device.complete.erase(event);
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.event_is_complete = [](void* event, std::int32_t* complete) {
        *complete = device.complete.contains(event) ? 1 : 0;
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.event_synchronize = [](void* event) {
        device.waited_for.push_back(event);
        device.complete.insert(event);
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    library.copy_to_device = [](void*, const void* from, std::int64_t, void*) {
        device.sources.push_back(from);
        return TempraCudaStatus{TEMPRA_CUDA_OK};
    };
    return library;
}

bool copy(PinnedStage& stage, std::int64_t bytes) {
    const std::vector<char> source(static_cast<std::size_t>(bytes), 'x');
    bool waited = false;
    EXPECT_EQ(stage.copy(nullptr, source.data(), bytes, nullptr, waited), TEMPRA_CUDA_OK);
    EXPECT_EQ(static_cast<const char*>(device.sources.back())[bytes - 1], 'x');
    return waited;
}

TEST(PinnedStage, ABufferUnderWayIsNotWrittenInto) {
    const TempraCudaLibrary library = slow_library();
    PinnedStage stage(library);
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(copy(stage, 100));
    const std::set<const void*> used(device.sources.begin(), device.sources.end());
    EXPECT_EQ(used.size(), 5U);
}

TEST(PinnedStage, ABufferThatIsThroughIsUsedAgain) {
    const TempraCudaLibrary library = slow_library();
    PinnedStage stage(library);
    static_cast<void>(copy(stage, 100));
    device.complete = device.events;
    EXPECT_FALSE(copy(stage, 2000));
    EXPECT_EQ(device.buffers, 1);
    device.complete = device.events;
    EXPECT_FALSE(copy(stage, 100000)) << "too small, so another is made";
    EXPECT_EQ(device.buffers, 2);
}

TEST(PinnedStage, AHostFarAheadWaitsForTheOldestCopy) {
    const TempraCudaLibrary library = slow_library();
    PinnedStage stage(library);
    int copies = 0;
    while (!copy(stage, 100)) ASSERT_LT(++copies, 1000);
    EXPECT_EQ(device.buffers, copies);
    ASSERT_EQ(device.waited_for.size(), 1U);
    EXPECT_EQ(device.sources.back(), device.sources.front()) << "not the oldest's buffer";
    EXPECT_TRUE(copy(stage, 100000));
    EXPECT_EQ(device.buffers, copies) << "the small buffer was not replaced";
}

}  // namespace
}  // namespace tempra
