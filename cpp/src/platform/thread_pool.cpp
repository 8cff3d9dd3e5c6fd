#include "platform/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <system_error>

#include "platform/futex.h"

namespace tempra::platform {

namespace {

// state_: loop number (20 bits) | open (1) | workers inside (11)
constexpr std::uint32_t kInsideMask = 0x7FF;
constexpr std::uint32_t kOpen = 0x800;
constexpr std::uint32_t kLoopUnit = 0x1000;

constexpr std::uint32_t loop_of(std::uint32_t state) { return state / kLoopUnit; }

// Long enough to bridge the gap between two kernels of a training step, short enough that a loop
// followed by other work does not burn a core.
constexpr std::int64_t kSpinNanoseconds = 50'000;

std::atomic<ThreadPool*> current_pool{nullptr};
std::atomic<int> fork_count{0};

thread_local int number_of_worker = 0;

// Kept reachable, so that leak checkers know it is left on purpose.
ThreadPool* last_abandoned = nullptr;

// Only the forking thread lives on in the child, and it may have forked at any moment of another
// thread's loop. So nothing of the old pool is touched again: no lock of it is waited for.
void abandon_pool_in_child() {
    number_of_worker = 0;
    fork_count.fetch_add(1, std::memory_order_relaxed);
    if (ThreadPool* pool = current_pool.load(std::memory_order_relaxed)) last_abandoned = pool;
    current_pool.store(nullptr, std::memory_order_relaxed);
}

[[maybe_unused]] const int fork_handler_status =
    pthread_atfork(nullptr, nullptr, abandon_pool_in_child);

// Polls `done` for about `nanoseconds`; true when it came true.
template <class Condition>
bool spin_until(std::int64_t nanoseconds, const Condition& done) {
    if (done()) return true;
    if (nanoseconds <= 0) return false;
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::nanoseconds(nanoseconds);
    do {
        for (int i = 0; i < 16; ++i) {
            cpu_pause();
            if (done()) return true;
        }
    } while (Clock::now() < deadline);
    return false;
}

}  // namespace

int worker_number() noexcept { return number_of_worker; }

void ThreadPool::acquire() noexcept {
    while (!try_acquire()) std::this_thread::yield();
}

void ThreadPool::run(const LoopJob& job) {
    const int forks_before = fork_count.load(std::memory_order_relaxed);
    job_ = job;
    parts_.begin(job);
    const std::uint32_t state = state_.load(std::memory_order_relaxed);
    // Sequentially consistent, as is the sleepers' count: either this thread sees the sleeper or
    // the sleeper's futex call sees the new state.
    state_.store((loop_of(state) + 1) * kLoopUnit | kOpen, std::memory_order_seq_cst);
    const auto sleepers = static_cast<std::int64_t>(sleepers_.load(std::memory_order_seq_cst));
    if (sleepers > 0) {
        futex_wake(state_, static_cast<int>(job.chunks - 1 < sleepers ? job.chunks - 1 : sleepers));
    }
    parts_.run(job_, 0);
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    wait_until_left(forks_before);
}

void ThreadPool::wait_until_left(int forks_before) {
    const auto empty = [this] {
        return (state_.load(std::memory_order_acquire) & kInsideMask) == 0;
    };
    if (spin_until(spin_nanoseconds_.load(std::memory_order_relaxed), empty)) return;
    while (!empty()) {
        // In a child forked by a body of this very loop the other workers do not exist.
        if (fork_count.load(std::memory_order_relaxed) != forks_before) return;
        caller_asleep_.store(1, std::memory_order_seq_cst);
        if ((state_.load(std::memory_order_seq_cst) & kInsideMask) == 0) return;
        futex_wait(caller_asleep_, 1);
    }
}

std::uint32_t ThreadPool::wait_for_loop(std::uint32_t last_loop) {
    const auto is_new = [last_loop](std::uint32_t state) {
        return (state & kOpen) != 0 && loop_of(state) != last_loop;
    };
    while (true) {
        std::uint32_t state = 0;
        spin_until(spin_nanoseconds_.load(std::memory_order_relaxed), [&] {
            state = state_.load(std::memory_order_acquire);
            return is_new(state) || stopping_.load(std::memory_order_relaxed);
        });
        if (stopping_.load(std::memory_order_seq_cst)) return 0;
        if (is_new(state)) return state;
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        futex_wait(state_, state);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
}

void ThreadPool::worker_main(int number, std::uint32_t loop) {
    number_of_worker = number;
    while (true) {
        std::uint32_t state = wait_for_loop(loop);
        if (state == 0) return;
        loop = loop_of(state);
        bool entered = false;
        while ((state & kOpen) != 0 && !entered) {
            entered = state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire);
        }
        if (!entered) continue;
        loop = loop_of(state);
        parts_.run(job_, number);
        const std::uint32_t left = state_.fetch_sub(1, std::memory_order_seq_cst) - 1;
        if ((left & (kInsideMask | kOpen)) == 0 &&
            caller_asleep_.exchange(0, std::memory_order_seq_cst) == 1) {
            futex_wake(caller_asleep_, 1);
        }
    }
}

void ThreadPool::resize(int threads, bool spin) {
    spin_nanoseconds_.store(spin ? kSpinNanoseconds : 0, std::memory_order_relaxed);
    if (threads == requested_threads_) return;
    parts_.resize(threads);  // may throw: nothing has changed then
    stop_workers();
    requested_threads_ = threads;
    // Workers take no signals: handlers (Python's among them) expect the host's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        const std::uint32_t loop = loop_of(state_.load(std::memory_order_relaxed));
        for (int i = 1; i < threads; ++i)
            workers_.emplace_back([this, i, loop] { worker_main(i, loop); });
    } catch (const std::system_error&) {
        // No more threads to be had (a process limit): loops run on those there are.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ThreadPool::stop_workers() {
    stopping_.store(true, std::memory_order_seq_cst);
    state_.store((loop_of(state_.load(std::memory_order_relaxed)) + 1) * kLoopUnit,
                 std::memory_order_seq_cst);
    futex_wake(state_, INT_MAX);
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_.store(false, std::memory_order_seq_cst);
}

ThreadPool& process_pool() {
    ThreadPool* pool = current_pool.load(std::memory_order_acquire);
    if (pool != nullptr) return *pool;
    // Never destroyed: workers may still be polling it while static objects are taken down.
    auto* fresh = new ThreadPool(last_abandoned);
    if (current_pool.compare_exchange_strong(pool, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
    return *pool;
}

}  // namespace tempra::platform
