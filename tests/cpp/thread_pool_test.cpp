#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "platform/thread_pool.h"
#include "tempra/error.h"
#include "tempra/threads.h"

#if defined(__SANITIZE_THREAD__)
#define TEMPRA_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEMPRA_TSAN 1
#endif
#endif

#if defined(TEMPRA_TSAN)
// The fork tests start threads in the child, which ThreadSanitizer refuses unless asked.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
    return "die_after_fork=0";
}
#endif

namespace tempra {
namespace {

using Chunk = std::pair<std::int64_t, std::int64_t>;

// Sum of i over [0, count), each chunk into a slot of its own.
std::int64_t parallel_sum(std::int64_t count, std::int64_t grain) {
    std::vector<std::int64_t> partial(static_cast<size_t>((count + grain - 1) / grain), 0);
    parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) partial[static_cast<size_t>(begin / grain)] += i;
    });
    return std::accumulate(partial.begin(), partial.end(), std::int64_t{0});
}

// Exit status of `body` run in a forked child; -1 when it had to be killed after 20 seconds.
template <class Body>
int run_in_child(const Body& body) {
    const pid_t child = fork();
    if (child == 0) _exit(body());
    for (int waited = 0; waited < 2000; ++waited) {
        int status = 0;
        if (waitpid(child, &status, WNOHANG) == child) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return -1;
}

// Ends only when that many threads run chunks at once.
void meet(int threads) {
    std::atomic<int> arrived{0};
    parallel_for(threads, 1, [&](std::int64_t, std::int64_t) {
        ++arrived;
        while (arrived < threads) std::this_thread::yield();
    });
}

class ThreadPoolTest : public ::testing::Test {
  protected:
    // The workers are awaited because some tests fork: AddressSanitizer takes locks of its own
    // while a thread starts, and a child forked at that moment would wait for them for ever.
    void SetUp() override {
        set_num_threads(3);
        meet(3);
    }
    void TearDown() override {
        set_executor({});
        set_num_threads(2);
    }
};

TEST_F(ThreadPoolTest, ChunksDependOnCountAndGrainAlone) {
    for (const int threads : {1, 2, 3, 7}) {
        set_num_threads(threads);
        for (const std::int64_t count : {1, 2, 9, 10, 11, 1000}) {
            std::mutex mutex;
            std::multiset<Chunk> seen;
            parallel_for(count, 5, [&](std::int64_t begin, std::int64_t end) {
                const std::lock_guard lock(mutex);
                seen.insert({begin, end});
            });
            std::multiset<Chunk> expected;
            for (std::int64_t begin = 0; begin < count; begin += 5) {
                expected.insert({begin, std::min(begin + 5, count)});
            }
            EXPECT_EQ(seen, expected) << threads << " threads, count " << count;
        }
    }
}

TEST_F(ThreadPoolTest, EmptyLoopsAndOddGrains) {
    int calls = 0;
    parallel_for(0, 4, [&](std::int64_t, std::int64_t) { ++calls; });
    parallel_for(-3, 4, [&](std::int64_t, std::int64_t) { ++calls; });
    EXPECT_EQ(calls, 0);
    std::atomic<std::int64_t> covered{0};
    parallel_for(7, 0, [&](std::int64_t begin, std::int64_t end) { covered += end - begin; });
    EXPECT_EQ(covered, 7);
    const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
    covered = 0;
    parallel_for(huge, huge / 2,
                 [&](std::int64_t begin, std::int64_t end) { covered += end - begin; });
    EXPECT_EQ(covered, huge);
}

TEST_F(ThreadPoolTest, ManyChunksAreEachRunOnce) {
    constexpr std::int64_t kCount = 100'003;
    std::vector<std::atomic<int>> runs(kCount);
    parallel_for(kCount, 1, [&](std::int64_t begin, std::int64_t) {
        runs[static_cast<size_t>(begin)].fetch_add(1, std::memory_order_relaxed);
    });
    for (std::int64_t i = 0; i < kCount; ++i) ASSERT_EQ(runs[static_cast<size_t>(i)], 1) << i;
}

// The chunks of ten, in the order in which one thread after the other would run them.
struct ChunkOrder {
    platform::LoopJob job;
    platform::ChunkParts parts;
    std::vector<std::int64_t> order;
    std::int64_t leaves_at = -1;  // before this chunk, another thread, of part 0, runs all it can

    explicit ChunkOrder(int threads) {
        parts.resize(threads);
        job.body = [](void* context, std::int64_t begin, std::int64_t end) {
            auto& self = *static_cast<ChunkOrder*>(context);
            EXPECT_EQ(end, begin + 1);
            if (begin == self.leaves_at) {
                self.leaves_at = -1;
                self.parts.run(self.job, 0);
            }
            self.order.push_back(begin);
        };
        job.context = this;
        job.count = job.chunks = 10;
    }
    std::vector<std::int64_t> run(int own) {
        order.clear();
        parts.begin(job);
        parts.run(job, own);
        return order;
    }
};

TEST(ChunkPartsTest, AThreadsOwnPartComesFirst) {
    ChunkOrder of_four(4);
    EXPECT_EQ(of_four.run(2), (std::vector<std::int64_t>{5, 6, 7, 8, 9, 0, 1, 2, 3, 4}));
    EXPECT_EQ(of_four.run(1), (std::vector<std::int64_t>{2, 3, 4, 5, 6, 7, 8, 9, 0, 1}));
    EXPECT_EQ(of_four.run(0), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(of_four.run(4), of_four.run(0));
    of_four.parts.resize(1);
    EXPECT_EQ(of_four.run(3), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    // More threads than chunks: ten parts of one.
    of_four.parts.resize(64);
    EXPECT_EQ(of_four.run(63), (std::vector<std::int64_t>{3, 4, 5, 6, 7, 8, 9, 0, 1, 2}));
}

TEST(ChunkPartsTest, WhatAnotherThreadTookIsNotRunAgain) {
    ChunkOrder of_two(2);
    of_two.leaves_at = 6;  // its caller has taken 5 and 6
    EXPECT_EQ(of_two.run(1), (std::vector<std::int64_t>{5, 0, 1, 2, 3, 4, 7, 8, 9, 6}));
    EXPECT_EQ(of_two.run(1), (std::vector<std::int64_t>{5, 6, 7, 8, 9, 0, 1, 2, 3, 4}));
}

TEST(ChunkPartsTest, ManyChunksAreTakenSeveralAtATime) {
    ChunkOrder of_two(2);
    of_two.job.chunks_per_claim = 4;  // 0 to 3; 4 to 7, 8 and 9
    EXPECT_EQ(of_two.run(1), (std::vector<std::int64_t>{4, 5, 6, 7, 8, 9, 0, 1, 2, 3}));
}

// Without workers that take part, the chunk that waits for two others would wait for ever.
TEST_F(ThreadPoolTest, SeveralThreadsTakePart) {
    std::atomic<int> arrived{0};
    std::mutex mutex;
    std::set<std::thread::id> threads;
    parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
        {
            const std::lock_guard lock(mutex);
            threads.insert(std::this_thread::get_id());
        }
        ++arrived;
        while (arrived < 3) std::this_thread::yield();
    });
    EXPECT_EQ(threads.size(), 3U);
    EXPECT_TRUE(threads.contains(std::this_thread::get_id()));
}

TEST_F(ThreadPoolTest, NestedLoopsRunOnTheCallingThread) {
    std::atomic<std::int64_t> total{0};
    std::atomic<int> strangers{0};
    parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
        const auto outer = std::this_thread::get_id();
        parallel_for(100, 3, [&](std::int64_t begin, std::int64_t end) {
            if (std::this_thread::get_id() != outer) ++strangers;
            total += end - begin;
        });
    });
    EXPECT_EQ(total, 800);
    EXPECT_EQ(strangers, 0);
}

TEST_F(ThreadPoolTest, ManyCallersAtOnce) {
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 6; ++caller) {
        callers.emplace_back([&wrong, caller] {
            for (int loop = 0; loop < 300; ++loop) {
                const std::int64_t count = 50 + loop + caller;
                if (parallel_sum(count, 7) != count * (count - 1) / 2) ++wrong;
                if (loop % 50 == caller) set_num_threads(1 + (loop + caller) % 4);
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(wrong, 0);
}

TEST_F(ThreadPoolTest, ManyTinyLoops) {
    for (const int threads : {2, 8}) {
        set_num_threads(threads);
        std::int64_t total = 0;
        const auto start = std::chrono::steady_clock::now();
        constexpr int kLoops = 100'000;
        for (int loop = 0; loop < kLoops; ++loop) {
            std::int64_t partial[4] = {};
            parallel_for(4, 1, [&](std::int64_t begin, std::int64_t) { partial[begin] = begin; });
            total += partial[0] + partial[1] + partial[2] + partial[3];
        }
        const std::chrono::duration<double, std::micro> elapsed =
            std::chrono::steady_clock::now() - start;
        EXPECT_EQ(total, std::int64_t{6} * kLoops);
        RecordProperty("microseconds_per_loop_" + std::to_string(threads) + "_threads",
                       std::to_string(elapsed.count() / kLoops));
        std::printf("%d threads: %.2f us a loop\n", threads, elapsed.count() / kLoops);
    }
}

// Workers asleep between loops must be woken; the pause is longer than they poll.
TEST_F(ThreadPoolTest, WorkersWakeAfterAPause) {
    for (int round = 0; round < 5; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        meet(3);
    }
}

TEST_F(ThreadPoolTest, SettingTheThreadCount) {
    set_num_threads(5);
    EXPECT_EQ(num_threads(), 5);
    set_num_threads(1);
    EXPECT_EQ(num_threads(), 1);
    const auto self = std::this_thread::get_id();
    parallel_for(10, 1,
                 [&](std::int64_t, std::int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
    EXPECT_THROW(set_num_threads(0), ConfigError);
    EXPECT_THROW(set_num_threads(1025), ConfigError);
    EXPECT_EQ(num_threads(), 1);
}

TEST_F(ThreadPoolTest, ForkedChildHasAPoolOfItsOwn) {
    ASSERT_EQ(parallel_sum(1000, 10), 499'500);
    const int status = run_in_child([] {
        for (int loop = 0; loop < 100; ++loop) {
            if (parallel_sum(1000, 10) != 499'500) return 1;
        }
        meet(3);
        return 0;
    });
    EXPECT_EQ(status, 0);
    EXPECT_EQ(parallel_sum(1000, 10), 499'500);
}

TEST_F(ThreadPoolTest, ForkDuringAnotherThreadsLoop) {
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::thread looper([&] {
        while (!stop) wrong += parallel_sum(2000, 5) != 1'999'000;
    });
    for (int round = 0; round < 20; ++round) {
        const int status = run_in_child([] { return parallel_sum(1000, 10) == 499'500 ? 0 : 1; });
        EXPECT_EQ(status, 0) << "round " << round;
    }
    stop = true;
    looper.join();
    EXPECT_EQ(wrong, 0);
}

TEST_F(ThreadPoolTest, ForkInsideALoopBodyDoesNotHang) {
    std::atomic<int> status{-3};
    const int outer = run_in_child([&] {
        parallel_for(3, 1, [&](std::int64_t begin, std::int64_t) {
            if (begin == 0) status = run_in_child([] { return 7; });
        });
        return status.load();
    });
    EXPECT_EQ(outer, 7);
}

TEST_F(ThreadPoolTest, AChildForkedByAWorkerIsNoWorker) {
    const auto caller = std::this_thread::get_id();
    std::atomic<int> status{-3}, arrived{0}, workers{0};
    parallel_for(3, 1, [&](std::int64_t, std::int64_t) {
        ++arrived;
        while (arrived < 3) std::this_thread::yield();
        if (std::this_thread::get_id() == caller || ++workers > 1) return;
        status = run_in_child([] {
            if (num_threads() != 3) return 1;
            meet(3);
            return 0;
        });
    });
    EXPECT_EQ(status, 0);
}

TEST_F(ThreadPoolTest, HostExecutorRunsTheLoops) {
    std::atomic<int> tasks_seen{0};
    Executor executor;
    executor.state = &tasks_seen;
    executor.concurrency = 4;
    executor.run = [](void* state, int tasks, void (*task)(void*, int), void* context) {
        *static_cast<std::atomic<int>*>(state) += tasks;
        std::vector<std::thread> threads;
        for (int i = 0; i < tasks; ++i) threads.emplace_back([=] { task(context, i); });
        for (std::thread& thread : threads) thread.join();
    };
    set_executor(executor);
    EXPECT_EQ(num_threads(), 4);
    EXPECT_EQ(parallel_sum(1000, 10), 499'500);
    EXPECT_EQ(tasks_seen, 4);
    EXPECT_EQ(parallel_sum(20, 10), 190);  // two chunks need two tasks
    EXPECT_EQ(tasks_seen, 6);
    // Nested loops stay inside their task.
    std::atomic<std::int64_t> total{0};
    parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
        parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
    });
    EXPECT_EQ(total, 40);
    EXPECT_EQ(tasks_seen, 10);

    executor.concurrency = 0;
    EXPECT_THROW(set_executor(executor), ConfigError);
    set_executor({});
    EXPECT_EQ(num_threads(), 3);
    EXPECT_EQ(parallel_sum(1000, 10), 499'500);
    EXPECT_EQ(tasks_seen, 10);
}

// The default is read once per process, so each case runs this binary again.
std::string default_thread_count(const char* tempra, const char* omp) {
    std::string command;
    command += tempra != nullptr ? std::string("TEMPRA_NUM_THREADS='") + tempra + "' " : "";
    command += omp != nullptr ? std::string("OMP_NUM_THREADS='") + omp + "' " : "";
    command = "env -u TEMPRA_NUM_THREADS -u OMP_NUM_THREADS " + command +
              "TEMPRA_PRINT_THREADS=1 " + "/proc/" + std::to_string(getpid()) + "/exe 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) output += static_cast<char>(c);
    pclose(pipe);
    return output;
}

TEST(DefaultThreadCount, ReadsTheEnvironment) {
    EXPECT_EQ(default_thread_count("5", "3"), "5");
    EXPECT_EQ(default_thread_count(nullptr, "3"), "3");
    EXPECT_EQ(default_thread_count(nullptr, "3,2"), "3");
    const std::string machine = default_thread_count(nullptr, nullptr);
    EXPECT_GE(std::stoi(machine), 1);
    EXPECT_EQ(default_thread_count(nullptr, "garbage"), machine);
    for (const char* bad : {"0", "-1", "two", "3x", "9999", " 4"}) {
        EXPECT_EQ(default_thread_count(bad, "3"), std::string("TEMPRA_NUM_THREADS: '") + bad +
                                                      "' is not a whole number from 1 to 1024");
    }
}

}  // namespace
}  // namespace tempra

int main(int argument_count, char** arguments) {
    if (std::getenv("TEMPRA_PRINT_THREADS") != nullptr) {
        try {
            std::printf("%d", tempra::num_threads());
        } catch (const tempra::Error& error) {
            std::printf("%s", error.what());
        }
        return 0;
    }
    ::testing::InitGoogleTest(&argument_count, arguments);
    return RUN_ALL_TESTS();
}
