// Phases that follow one another, each shared by threads, without leaving the parallel loop between
// them: for work so short that starting a loop for each phase would cost as much as the phase.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <vector>

namespace tempra::platform {

// Used by one thread at a time; what it holds is used again by the next run.
//
// Protocol. Phases are numbered through all runs, and each part has one cache line with the number
// of the last phase in which it was taken and of the last in which it ended. Taking it is a
// compare-exchange from an earlier number; a phase is over when all its parts have ended in it or
// later. So a thread that finds its own part free writes to no line of another's, which between
// processors without a common cache costs a quarter of a microsecond each time.
class PhasedLoop {
  public:
    // Calls body(phase, part) once for each part in [0, parts[phase]), parts[phase] >= 1. No part
    // begins before all parts of the phases before it have ended, and sees what they wrote. Phases
    // of several parts are shared by the threads of one `parallel_for`. A thread takes the part of
    // its own number where it can, run after run, because what a part reads may still be in that
    // processor's cache; then any other that nobody has begun, so that a worker that comes late or
    // not at all is not waited for. A phase of one part is called by the calling thread outside of
    // any loop, and may run loops of its own. The first exception of a body ends the run and is
    // thrown on.
    template <class Body>
    void run(std::span<const std::int64_t> parts, const Body& body) {
        run(
            parts,
            [](void* context, std::int64_t phase, std::int64_t part) {
                (*static_cast<const Body*>(context))(phase, part);
            },
            const_cast<void*>(static_cast<const void*>(&body)));
    }

  private:
    using PhaseFunction = void (*)(void* context, std::int64_t phase, std::int64_t part);
    struct alignas(64) Part {
        std::atomic<std::int64_t> taken{0}, ended{0};
    };

    void run(std::span<const std::int64_t> parts, PhaseFunction body, void* context);
    // The phases [first, last), on each thread that takes part in their loop.
    void take_part(std::span<const std::int64_t> parts, std::int64_t first, std::int64_t last,
                   std::int64_t own_part, PhaseFunction body, void* context);
    void call(PhaseFunction body, void* context, std::int64_t phase, std::int64_t part) noexcept;

    std::vector<Part> parts_;
    std::int64_t phases_before_ = 1;  // this run
    std::atomic<bool> failed_{false};
    std::mutex failure_mutex_;
    std::exception_ptr failure_;
};

}  // namespace tempra::platform
