// Page-locked buffers over a device whose copies end when the test says so.
#include "memory/pinned_stage.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <string_view>
#include <vector>

namespace tempra {
namespace {

// What the library's functions, which carry no state of their own, act on.
struct SlowDevice {
    std::vector<const void*> sources;  // of each copy, in order
    std::set<void*> events, complete;
    std::vector<void*> waited_for;
    int buffers = 0;
    std::string_view failing;  // the function that fails
} device;

constexpr auto done = static_cast<TempraCudaStatus>(TEMPRA_CUDA_OK);
constexpr auto failed = static_cast<TempraCudaStatus>(TEMPRA_CUDA_FAILED);

TempraCudaLibrary slow_library() {
    device = {};
    TempraCudaLibrary library{};
    library.allocate_pinned = [](std::int64_t bytes, void** out) {
        if (device.failing == "allocate_pinned") return failed;
        *out = std::malloc(static_cast<std::size_t>(bytes));
        ++device.buffers;
        return done;
    };
    library.release_pinned = [](void* block) {
        std::free(block);
        --device.buffers;
        return done;
    };
    library.event_create = [](void** event) {
        if (device.failing == "event_create") return failed;
        *event = std::malloc(1);
        device.events.insert(*event);
        return done;
    };
    library.event_destroy = [](void* event) {
        device.events.erase(event);
        std::free(event);
        return done;
    };
    library.event_record = [](void* event, void*) {
        if (device.failing == "event_record") return failed;
        device.complete.erase(event);
        return done;
    };
    library.event_is_complete = [](void* event, std::int32_t* complete) {
        if (device.failing == "event_is_complete") return failed;
        *complete = device.complete.contains(event) ? 1 : 0;
        return done;
    };
    library.event_synchronize = [](void* event) {
        if (device.failing == "event_synchronize") return failed;
        device.waited_for.push_back(event);
        device.complete.insert(event);
        return done;
    };
    library.copy_to_device = [](void*, const void* from, std::int64_t, void*) {
        if (device.failing == "copy_to_device") return failed;
        device.sources.push_back(from);
        return done;
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

TempraCudaStatus copy_that_fails(PinnedStage& stage, std::string_view function) {
    device.failing = function;
    bool waited = false;
    const TempraCudaStatus status = stage.copy(nullptr, "x", 1, nullptr, waited);
    device.failing = {};
    return status;
}

TEST(PinnedStage, ABufferWhoseCopyFailedIsDropped) {
    for (const std::string_view function :
         {"allocate_pinned", "event_create", "copy_to_device", "event_record"}) {
        const TempraCudaLibrary library = slow_library();
        PinnedStage stage(library);
        EXPECT_EQ(copy_that_fails(stage, function), TEMPRA_CUDA_FAILED) << function;
        EXPECT_EQ(device.buffers, 0) << function;
        EXPECT_TRUE(device.events.empty()) << function;
        // Its event, never recorded, would be complete: the copy might still be reading.
        static_cast<void>(copy(stage, 100));
        device.complete = device.events;
        EXPECT_EQ(copy_that_fails(stage, "event_record"), TEMPRA_CUDA_FAILED) << function;
        EXPECT_EQ(device.buffers, 0) << function;
        static_cast<void>(copy(stage, 100));
        EXPECT_EQ(device.buffers, 1) << function;
    }
}

TEST(PinnedStage, ABufferThatCannotBeAskedAboutIsKept) {
    const TempraCudaLibrary library = slow_library();
    PinnedStage stage(library);
    int copies = 0;
    while (!copy(stage, 100)) ASSERT_LT(++copies, 1000);
    for (const std::string_view function : {"event_is_complete", "event_synchronize"}) {
        const std::size_t sent = device.sources.size();
        EXPECT_EQ(copy_that_fails(stage, function), TEMPRA_CUDA_FAILED) << function;
        EXPECT_EQ(device.sources.size(), sent) << function;
        EXPECT_EQ(device.buffers, copies) << function;
        device.complete.clear();
    }
    const void* const oldest = device.sources[1];
    EXPECT_TRUE(copy(stage, 100));
    EXPECT_EQ(device.sources.back(), oldest);
}

}  // namespace
}  // namespace tempra
