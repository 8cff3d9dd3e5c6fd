#include "platform/phased_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "platform/thread_pool.h"
#include "tempra/threads.h"

namespace tempra::platform {
namespace {

using Parts = std::vector<std::int64_t>;

class PhasedLoopTest : public ::testing::Test {
  protected:
    void SetUp() override { set_num_threads(3); }
    void TearDown() override {
        set_executor({});
        set_num_threads(2);
    }
    PhasedLoop loop_;
};

// Each part adds up all numbers of the phase before it, so that one that began too early, was left
// out or was run twice changes every later number. The numbers are plain ones.
std::vector<std::int64_t> run_sums(PhasedLoop& loop, const Parts& parts) {
    std::vector<std::vector<std::int64_t>> numbers;
    for (const std::int64_t count : parts) numbers.emplace_back(static_cast<size_t>(count), 0);
    loop.run(parts, [&](std::int64_t phase, std::int64_t part) {
        const auto p = static_cast<size_t>(phase);
        const std::int64_t before =
            p == 0 ? 1 : std::accumulate(numbers[p - 1].begin(), numbers[p - 1].end(), 0LL) % 1009;
        numbers[p][static_cast<size_t>(part)] += before + part;
    });
    return numbers.empty() ? Parts{} : numbers.back();
}

TEST_F(PhasedLoopTest, PhasesFollowOneAnother) {
    std::mt19937 random(1);
    for (int round = 0; round < 300; ++round) {
        Parts parts(random() % 30);
        for (std::int64_t& count : parts) count = 1 + static_cast<std::int64_t>(random() % 6);
        set_num_threads(1);
        const auto expected = run_sums(loop_, parts);
        set_num_threads(2 + round % 3);
        EXPECT_EQ(run_sums(loop_, parts), expected) << "round " << round;
    }
}

// Inside a phase of several parts kernels run on their thread alone, whichever thread it is; one of
// one part has them all.
TEST_F(PhasedLoopTest, OnePartMayRunLoopsOfItsOwn) {
    for (int round = 0; round < 20; ++round) {
        std::vector<int> of_parts(3, 0);
        int alone = 0;
        std::atomic<int> begun{0};
        loop_.run(Parts{3, 1}, [&](std::int64_t phase, std::int64_t part) {
            if (phase == 1) {
                alone = num_threads();
                return;
            }
            ++begun;  // so that each thread has a part
            while (begun < 3) std::this_thread::yield();
            of_parts[static_cast<size_t>(part)] = num_threads();
        });
        EXPECT_EQ(of_parts, (std::vector<int>{1, 1, 1}));
        EXPECT_EQ(alone, 3);
    }
}

TEST_F(PhasedLoopTest, ThreadsKeepTheirParts) {
    for (int round = 0; round < 20; ++round) {
        std::atomic<int> begun{0};
        std::vector<int> workers(3, -1);
        loop_.run(Parts{3, 3}, [&](std::int64_t phase, std::int64_t part) {
            ++begun;
            while (begun < 3 * (phase + 1)) std::this_thread::yield();
            workers[static_cast<size_t>(part)] = worker_number();
        });
        EXPECT_EQ(workers, (std::vector<int>{0, 1, 2}));
    }
}

TEST_F(PhasedLoopTest, AnExceptionEndsTheRunAndTheLoopGoesOn) {
    for (const std::int64_t bad : {0, 1, 2}) {
        std::atomic<int> later{0};
        const auto body = [&](std::int64_t phase, std::int64_t part) {
            if (phase == bad && part == 0) throw std::runtime_error("bad part");
            if (phase > bad) ++later;
        };
        EXPECT_THROW(loop_.run(Parts{1, 2, 3, 1, 2}, body), std::runtime_error);
        EXPECT_EQ(later, 0);
        EXPECT_EQ(run_sums(loop_, {2, 3}), (Parts{3, 4, 5}));
    }
}

// A host that runs its tasks one after the other: the first has to do all parts.
TEST_F(PhasedLoopTest, TasksOfAHostNeedNotRunSideBySide) {
    const auto expected = run_sums(loop_, {3, 3, 1, 3});
    set_executor({nullptr, 3, [](void*, int tasks, void (*task)(void*, int), void* context) {
                      for (int i = 0; i < tasks; ++i) task(context, i);
                  }});
    EXPECT_EQ(run_sums(loop_, {3, 3, 1, 3}), expected);
}

}  // namespace
}  // namespace tempra::platform
