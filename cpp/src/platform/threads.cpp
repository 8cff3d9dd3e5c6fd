// parallel_for and its settings. Which threads run a loop is decided here; how the pool's threads
// meet is in thread_pool.cpp. Nothing here touches the floating-point state (rounding, flush to
// zero): workers keep what the thread that started them had.
#include "tempra/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "platform/cgroup.h"
#include "platform/thread_pool.h"
#include "tempra/error.h"

namespace tempra {

namespace {

using platform::LoopJob;
using platform::ThreadPool;

constexpr int kMaxThreads = 1024;

std::atomic<int> chosen_threads{0};  // 0: not determined yet

struct InstalledExecutor {
    Executor executor;
    const InstalledExecutor* previous;  // a loop may still be running on an older one
};
std::atomic<const InstalledExecutor*> installed_executor{nullptr};

thread_local bool inside_loop = false;

class InsideLoop {
  public:
    InsideLoop() : before_(inside_loop) { inside_loop = true; }
    ~InsideLoop() { inside_loop = before_; }
    InsideLoop(const InsideLoop&) = delete;
    InsideLoop& operator=(const InsideLoop&) = delete;

  private:
    bool before_;
};

// A worker of the pool runs nothing but loops' chunks.
bool runs_a_loop() { return inside_loop || platform::worker_number() != 0; }

int count_usable_cpus() {
    int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    // A set sized for more CPUs than any kernel is configured for.
    constexpr int kMaxCpus = 16384;
    if (cpu_set_t* set = CPU_ALLOC(kMaxCpus); set != nullptr) {
        const size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
        if (sched_getaffinity(0, bytes, set) == 0) cpus = CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
    }
#endif
    return cpus < 1 ? 1 : cpus;
}

// An atomic, not a function-local static: its guard could be held by another thread at a fork.
int usable_cpus() {
    static std::atomic<int> cached{0};
    int cpus = cached.load(std::memory_order_relaxed);
    if (cpus == 0) {
        cpus = count_usable_cpus();
        cached.store(cpus, std::memory_order_relaxed);
    }
    return cpus;
}

int parse_thread_count(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && value >= 1 && value <= kMaxThreads ? value : 0;
}

int default_threads() {
    if (const char* text = std::getenv("TEMPRA_NUM_THREADS"); text != nullptr && *text != '\0') {
        const int count = parse_thread_count(text);
        TEMPRA_CHECK(ConfigError, count != 0,
                     "TEMPRA_NUM_THREADS: '{}' is not a whole number from 1 to {}", text,
                     kMaxThreads);
        return count;
    }
    // Other libraries read this one too: what they tolerate must not stop us. A list gives the
    // count for each nesting level; the first is ours.
    if (const char* text = std::getenv("OMP_NUM_THREADS"); text != nullptr) {
        const std::string_view list = text;
        const int count = parse_thread_count(list.substr(0, list.find(',')));
        if (count != 0) return count;
    }
    int count = usable_cpus();
    // Rounded down: a thread more than the quota pays for only gets the others throttled.
    const double quota = platform::read_cgroup_limits().cpus;
    if (quota > 0.0 && quota < count) count = static_cast<int>(quota);
    if (count > kMaxThreads) count = kMaxThreads;
    return count < 1 ? 1 : count;
}

int pool_threads() {
    int count = chosen_threads.load(std::memory_order_relaxed);
    if (count != 0) return count;
    const int fresh = default_threads();
    // A concurrent set_num_threads wins.
    return chosen_threads.compare_exchange_strong(count, fresh, std::memory_order_relaxed) ? fresh
                                                                                           : count;
}

void run_inline(const LoopJob& job) {
    const InsideLoop guard;
    for (std::int64_t begin = 0; begin < job.count;) {
        const std::int64_t end = job.count - begin > job.grain ? begin + job.grain : job.count;
        job.body(job.context, begin, end);
        begin = end;
    }
}

struct ExecutorLoop {
    const LoopJob* job;
    platform::ChunkParts parts;
};

void run_on_executor(const Executor& executor, const LoopJob& job) {
    const int tasks = static_cast<int>(std::min<std::int64_t>(job.chunks, executor.concurrency));
    ExecutorLoop loop{&job, platform::ChunkParts(std::min(tasks, kMaxThreads))};
    loop.parts.begin(job);
    executor.run(
        executor.state, tasks,
        [](void* context, int task) {
            const InsideLoop guard;
            auto& shared = *static_cast<ExecutorLoop*>(context);
            shared.parts.run(*shared.job, task);
        },
        &loop);
}

// The pool, for the length of a loop; null while another thread's loop has it.
class OwnedPool {
  public:
    OwnedPool() : pool_(&platform::process_pool()) {
        if (!pool_->try_acquire()) pool_ = nullptr;
    }
    ~OwnedPool() {
        if (pool_ != nullptr) pool_->release();
    }
    OwnedPool(const OwnedPool&) = delete;
    OwnedPool& operator=(const OwnedPool&) = delete;
    [[nodiscard]] ThreadPool* get() const { return pool_; }

  private:
    ThreadPool* pool_;
};

void run_loop(std::int64_t count, std::int64_t grain, RangeFunction body, void* context,
              bool in_order) {
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    LoopJob job{body, context, count, grain, (count - 1) / grain + 1, 1, in_order};
    if (job.chunks == 1 || runs_a_loop()) return run_inline(job);

    const InstalledExecutor* installed = installed_executor.load(std::memory_order_acquire);
    const Executor* executor =
        installed != nullptr && installed->executor.run != nullptr ? &installed->executor : nullptr;
    const int threads = executor != nullptr ? executor->concurrency : pool_threads();
    if (threads == 1) return run_inline(job);
    // Single chunks balance best; claiming several only pays where there are thousands.
    job.chunks_per_claim = std::max<std::int64_t>(1, job.chunks / (std::int64_t{64} * threads));
    if (executor != nullptr) return run_on_executor(*executor, job);

    const OwnedPool pool;
    // Sharing another loop's workers would only slow both.
    if (pool.get() == nullptr) return run_inline(job);
    const InsideLoop guard;
    pool.get()->resize(threads, threads <= usable_cpus());
    pool.get()->run(job);
}

}  // namespace

void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body, void* context) {
    run_loop(count, grain, body, context, false);
}

void parallel_for_in_order(std::int64_t count, std::int64_t grain, RangeFunction body,
                           void* context) {
    run_loop(count, grain, body, context, true);
}

int num_threads() {
    if (runs_a_loop()) return 1;
    const InstalledExecutor* installed = installed_executor.load(std::memory_order_acquire);
    if (installed != nullptr && installed->executor.run != nullptr) {
        return installed->executor.concurrency;
    }
    return pool_threads();
}

void set_num_threads(int count) {
    TEMPRA_CHECK(ConfigError, count >= 1 && count <= kMaxThreads,
                 "set_num_threads: {} given, 1 to {} needed", count, kMaxThreads);
    // The workers change with the next loop.
    chosen_threads.store(count, std::memory_order_relaxed);
}

void set_executor(const Executor& executor) {
    TEMPRA_CHECK(ConfigError, executor.run == nullptr || executor.concurrency >= 1,
                 "set_executor: concurrency {} given, at least 1 needed", executor.concurrency);
    auto* fresh = new InstalledExecutor{executor, nullptr};
    const InstalledExecutor* before = installed_executor.load(std::memory_order_relaxed);
    do {
        fresh->previous = before;
    } while (!installed_executor.compare_exchange_weak(before, fresh, std::memory_order_acq_rel,
                                                       std::memory_order_relaxed));
}

}  // namespace tempra
