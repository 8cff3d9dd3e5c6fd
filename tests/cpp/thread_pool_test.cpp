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

// Loops of changing size one after the other, with thieves: what is left of one must not be taken
// for part of the next.
TEST_F(ThreadPoolTest, ManyChunksAreEachRunOnce) {
    std::vector<std::atomic<int>> runs(100'003);
    for (int loop = 0; loop < 200; ++loop) {
        const std::int64_t count = loop % 50 == 0 ? 100'003 : 5 + loop * 37 % 400;
        for (std::int64_t i = 0; i < count; ++i) runs[static_cast<std::size_t>(i)] = 0;
        const auto body = [&](std::int64_t begin, std::int64_t) {
            runs[static_cast<std::size_t>(begin)].fetch_add(1, std::memory_order_relaxed);
            if (begin == 0) std::this_thread::yield();  // others take the rest of this part
        };
        if (loop % 3 == 0) {
            parallel_for_in_order(count, 1, body);
        } else {
            parallel_for(count, 1, body);
        }
        for (std::int64_t i = 0; i < count; ++i) {
            ASSERT_EQ(runs[static_cast<std::size_t>(i)], 1) << "loop " << loop << " chunk " << i;
        }
    }
}

// The chunks of 300 with which three threads begin: each waits in its first one for the others, so
// that none can take what is left of another's part before that one has begun.
template <class Loop>
std::set<std::int64_t> first_chunks_of_three(const Loop& loop) {
    std::atomic<int> arrived{0};
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::set<std::int64_t> first_chunks;
    loop(300, 1, [&](std::int64_t begin, std::int64_t) {
        {
            const std::lock_guard lock(mutex);
            if (!threads.insert(std::this_thread::get_id()).second) return;
            first_chunks.insert(begin);
        }
        ++arrived;
        while (arrived < 3) std::this_thread::yield();
    });
    return first_chunks;
}

TEST_F(ThreadPoolTest, EachThreadBeginsWithAPartOfItsOwn) {
    const auto loop = [](auto... arguments) { parallel_for(arguments...); };
    EXPECT_EQ(first_chunks_of_three(loop), (std::set<std::int64_t>{0, 100, 200}));
}

TEST_F(ThreadPoolTest, InOrderTheFirstChunksComeFirst) {
    const auto loop = [](auto... arguments) { parallel_for_in_order(arguments...); };
    EXPECT_EQ(first_chunks_of_three(loop), (std::set<std::int64_t>{0, 1, 2}));
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

// Tasks of an executor begin with their own parts too, also when one thread runs them all.
TEST_F(ThreadPoolTest, AnExecutorsTasksBeginWithTheirParts) {
    Executor executor;
    executor.concurrency = 3;
    executor.run = [](void*, int tasks, void (*task)(void*, int), void* context) {
        for (int i = tasks - 1; i >= 0; --i) task(context, i);
    };
    set_executor(executor);
    std::vector<std::int64_t> order;
    parallel_for(9, 1, [&](std::int64_t begin, std::int64_t) { order.push_back(begin); });
    EXPECT_EQ(order, (std::vector<std::int64_t>{6, 7, 8, 0, 1, 2, 3, 4, 5}));
    // More than there can be parts.
    executor.concurrency = 5000;
    set_executor(executor);
    std::vector<int> runs(7000);
    parallel_for(7000, 1, [&](std::int64_t begin, std::int64_t) { ++runs[begin]; });
    EXPECT_EQ(runs, std::vector<int>(7000, 1));
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
