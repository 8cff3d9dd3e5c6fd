// Whether every thread of the pool works in every loop.
//
//   thread_pool_bench [threads=N] [seconds=S]
//
// Loops of several lengths, with pauses of several lengths between them, in which the calling
// thread computes (as between two kernels of a step): chunks of 5 us of arithmetic. One line per
// pair: median and tenth percentile of the rate, as the share of `threads` times one thread's, and
// the share of loops in which one thread ran more than three quarters of the work; `same` counts
// those whose threads were all seen on one processor. A rate of 1 / threads is a worker asleep, or
// two threads on one processor.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tempra/threads.h"

namespace tempra {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// A fixed amount of arithmetic that touches no memory.
double arithmetic(std::int64_t turns) {
    double x = 1.0;
    for (std::int64_t i = 0; i < turns; ++i) x = x * 1.0000001 + 1e-9;
    return x;
}

std::atomic<double> sink{0};

std::int64_t turns_per_chunk() {
    double best = 1e30;
    constexpr std::int64_t kTurns = 100'000;
    for (int i = 0; i < 50; ++i) {
        const auto start = Clock::now();
        sink.store(arithmetic(kTurns), std::memory_order_relaxed);
        best = std::min(best, microseconds_since(start));
    }
    return static_cast<std::int64_t>(5.0 / best * kTurns);
}

struct Seen {
    std::atomic<std::int64_t> chunks{0};
    std::atomic<int> processor{-1};
};

void measure(std::int64_t chunks, double pause, int threads, double seconds, std::int64_t turns) {
    static std::vector<Seen> seen(1024);
    static std::atomic<int> next_thread{0};
    std::vector<double> rates;
    int lopsided = 0, same = 0;
    const auto begin = Clock::now();
    while (microseconds_since(begin) < seconds * 1e6) {
        for (int i = 0; i < next_thread.load(); ++i) seen[static_cast<size_t>(i)].chunks = 0;
        const auto start = Clock::now();
        parallel_for(chunks, 1, [&](std::int64_t, std::int64_t) {
            thread_local const int self = next_thread.fetch_add(1);
            sink.store(arithmetic(turns), std::memory_order_relaxed);
            seen[static_cast<size_t>(self)].chunks.fetch_add(1, std::memory_order_relaxed);
            seen[static_cast<size_t>(self)].processor.store(sched_getcpu(),
                                                            std::memory_order_relaxed);
        });
        rates.push_back(5.0 * static_cast<double>(chunks) / microseconds_since(start) / threads);
        std::int64_t most = 0;
        bool one = true;
        int processor = -1;
        for (int i = 0; i < next_thread.load(); ++i) {
            const Seen& each = seen[static_cast<size_t>(i)];
            most = std::max(most, each.chunks.load());
            if (each.chunks.load() == 0) continue;
            if (processor >= 0 && each.processor.load() != processor) one = false;
            processor = each.processor.load();
        }
        if (4 * most > 3 * chunks) ++lopsided;
        if (one && most < chunks) ++same;
        const auto waiting = Clock::now();
        while (microseconds_since(waiting) < pause) {
        }
    }
    std::sort(rates.begin(), rates.end());
    const auto loops = static_cast<double>(rates.size());
    std::printf(
        "%6lld us, %6.0f us between: median %5.1f %%, tenth %5.1f %%, lopsided %5.1f %%, "
        "same processor %5.1f %% of %zu\n",
        static_cast<long long>(5 * chunks / threads), pause, 100 * rates[rates.size() / 2],
        100 * rates[rates.size() / 10], 100 * lopsided / loops, 100 * same / loops, rates.size());
}

}  // namespace
}  // namespace tempra

int main(int argc, char** argv) {
    int threads = 2;
    double seconds = 0.5;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option.starts_with("threads=")) threads = std::atoi(option.c_str() + 8);
        if (option.starts_with("seconds=")) seconds = std::atof(option.c_str() + 8);
    }
    tempra::set_num_threads(threads);
    const std::int64_t turns = tempra::turns_per_chunk();
    for (const std::int64_t chunks : {8, 80, 800}) {
        for (const double pause : {0.0, 20.0, 100.0, 1000.0, 20000.0}) {
            tempra::measure(chunks * threads / 2, pause, threads, seconds, turns);
        }
    }
    return 0;
}
