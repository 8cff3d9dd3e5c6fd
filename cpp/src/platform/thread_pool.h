// Worker threads that share the chunks of one loop at a time with the calling thread.
//
// Protocol. `state_` holds (loop number, open bit, workers inside). The caller, who owns the pool
// for the length of a loop, writes the job, opens the state and takes chunks itself. A worker may
// read the job only between entering (compare-exchange that adds one while the loop is open) and
// leaving (subtract one). The caller closes the state when no chunk is left to hand out and waits
// only for workers that entered: one that is still asleep is never waited for, so a short loop on
// a busy machine costs no more than running it alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "tempra/threads.h"

namespace tempra::platform {

struct LoopJob {
    RangeFunction body = nullptr;
    void* context = nullptr;
    std::int64_t count = 0;
    std::int64_t grain = 1;
    std::int64_t chunks = 0;
    std::int64_t chunks_per_claim = 1;  // more than one only where there are very many
};

// Of a pool's worker 1, 2, ...; of any other thread 0.
[[nodiscard]] int worker_number() noexcept;

// The chunks of one loop at a time, in as many parts of neighbouring chunks as there are threads. A
// thread takes those of its own part first, then what is left of others'. So the same rows of one
// kernel after the other are mostly worked on by the same thread, whose caches have them, and
// threads fetch no common counter from each other's caches.
class ChunkParts {
  public:
    // Between loops; `threads` at least 1.
    void resize(int threads);
    // Between loops: the next job's chunks are all there to be taken.
    void begin(const LoopJob& job) noexcept;
    // Runs chunk after chunk until none is left, those of part `own` (modulo the parts) first.
    void run(const LoopJob& job, int own);

  private:
    struct alignas(64) Part {
        std::atomic<std::uint64_t> taken{0};  // the loop's number and how many claims were taken
    };
    static constexpr int kNumberShift = 32;

    // The claim of this loop that the caller is to run, of `count` in a part; or -1.
    std::int64_t take(Part& part, std::int64_t count) const noexcept;

    std::vector<Part> parts_ = std::vector<Part>(1);
    std::int64_t used_ = 1, claims_ = 0;
    std::uint64_t loop_ = 0;  // 32 bits of it
};

class ThreadPool {
  public:
    explicit ThreadPool(ThreadPool* abandoned) : abandoned_(abandoned) {}
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // Ownership: one thread runs a loop or changes the workers at a time.
    [[nodiscard]] bool try_acquire() noexcept {
        return owned_.exchange(1, std::memory_order_acquire) == 0;
    }
    void acquire() noexcept;
    void release() noexcept { owned_.store(0, std::memory_order_release); }

    // The owner only. Starts or stops workers until there are `threads - 1` (fewer when the system
    // refuses more). `spin`: waiting threads poll for a while before they sleep.
    void resize(int threads, bool spin);
    void run(const LoopJob& job);

  private:
    void worker_main(int number, std::uint32_t loop);
    // Returns the state with a new open loop, or 0 when the worker must end.
    std::uint32_t wait_for_loop(std::uint32_t last_loop);
    void wait_until_left(int fork_count);
    void stop_workers();

    // Written by the caller between loops, read by workers inside one.
    LoopJob job_;
    ChunkParts parts_;
    std::vector<std::thread> workers_;
    int requested_threads_ = 1;
    std::atomic<std::int64_t> spin_nanoseconds_{0};
    std::atomic<bool> stopping_{false};
    // The pool this process inherited through fork; kept reachable, never used.
    [[maybe_unused]] ThreadPool* abandoned_;

    alignas(64) std::atomic<std::uint32_t> state_{0};
    std::atomic<std::uint32_t> sleepers_{0};
    alignas(64) std::atomic<std::uint32_t> caller_asleep_{0};
    alignas(64) std::atomic<std::uint32_t> owned_{0};
};

// The pool of this process, made on first use; a forked child gets a new one.
[[nodiscard]] ThreadPool& process_pool();

}  // namespace tempra::platform
