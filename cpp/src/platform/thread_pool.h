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

#include "platform/chunk_parts.h"

namespace tempra::platform {

// Of a pool's worker 1, 2, ...; of any other thread 0.
[[nodiscard]] int worker_number() noexcept;

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
