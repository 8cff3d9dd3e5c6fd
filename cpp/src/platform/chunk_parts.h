// The chunks of a parallel loop, and which thread takes which.
#pragma once

#include <atomic>
#include <cstdint>
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
    bool in_order = false;              // claims begin in their order, whichever thread takes them
};

// The chunks of one loop at a time, in as many parts of neighbouring chunks as there are threads
// (one part when they are to begin in order). A thread takes those of its own part first, then what
// is left of others'. So the same rows of one kernel after the other are mostly worked on by the
// same thread, whose caches have them, and while their own parts last threads fetch no counter from
// each other's caches.
class ChunkParts {
  public:
    explicit ChunkParts(int threads = 1) : parts_(static_cast<std::size_t>(threads)) {}
    // Between loops; `threads` at least 1.
    void resize(int threads);
    // Between loops: the next job's chunks are all there to be taken.
    void begin(const LoopJob& job) noexcept;
    // For tests: so many loops count as run.
    void skip_loops(std::uint32_t count) noexcept { loop_ += count; }
    // Runs chunk after chunk until none is left, those of part `own` (modulo the parts) first.
    void run(const LoopJob& job, int own);

  private:
    struct alignas(64) Part {
        std::atomic<std::uint64_t> taken{0};  // the loop's number and how many claims were taken
    };

    // The claim of this loop that the caller is to run, of `count` in a part; or -1.
    std::int64_t take(Part& part, std::int64_t count) const noexcept;

    std::vector<Part> parts_;
    std::int64_t used_ = 1, claims_ = 0;
    std::uint32_t loop_ = 0;  // never 0 in a loop
};

}  // namespace tempra::platform
