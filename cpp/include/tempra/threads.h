// The library's thread pool, and how a host replaces it.
#pragma once

#include <cstdint>

namespace tempra {

// Body of a parallel loop: called with [begin, end).
using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);

// Runs `body` over [0, count) in chunks of exactly `grain` (the last may be shorter): one call per
// chunk [k * grain, min((k + 1) * grain, count)). Chunks depend on `count` and `grain` alone, never
// on the number of threads, so a reduction with one partial result per chunk is reproducible.
// Which thread runs which chunk is unspecified; a thread begins with neighbouring chunks, about the
// same share of [0, count) in every loop, so work on the same rows should have the same place in
// the range. The caller takes part; returns when all are done.
// A nested call runs its chunks on the calling thread. Bodies must not throw.
void parallel_for(std::int64_t count, std::int64_t grain, RangeFunction body, void* context);

template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
    parallel_for(
        count, grain,
        [](void* context, std::int64_t begin, std::int64_t end) {
            (*static_cast<const Body*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
}

// The same, but chunks (runs of them where a thread has 128 or more) begin in their order: for
// chunks of unequal work, the longest first, of which one thread should not get all.
void parallel_for_in_order(std::int64_t count, std::int64_t grain, RangeFunction body,
                           void* context);

template <class Body>
void parallel_for_in_order(std::int64_t count, std::int64_t grain, const Body& body) {
    parallel_for_in_order(
        count, grain,
        [](void* context, std::int64_t begin, std::int64_t end) {
            (*static_cast<const Body*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
}

// Threads that take part in a loop, the caller included. Default: TEMPRA_NUM_THREADS, else
// OMP_NUM_THREADS, else the CPUs this process may run on (affinity and cgroup quota). Within the
// body of a loop: 1.
[[nodiscard]] int num_threads();
void set_num_threads(int count);  // ConfigError unless 1 <= count <= 1024

// A host's own executor: `run(state, tasks, task, context)` calls task(context, i) once for each
// i in [0, tasks), in any order, on any threads, and returns when all are done.
struct Executor {
    void* state = nullptr;
    int concurrency = 1;
    void (*run)(void* state, int tasks, void (*task)(void* context, int index),
                void* context) = nullptr;
};

// Uses `executor` for every following loop; one with `run == nullptr` restores the pool.
void set_executor(const Executor& executor);

}  // namespace tempra
