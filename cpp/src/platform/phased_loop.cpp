#include "platform/phased_loop.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "platform/futex.h"
#include "platform/thread_pool.h"
#include "tempra/threads.h"

namespace tempra::platform {

namespace {

// Parts are a few microseconds long; a thread that polls for longer waits for one that has lost its
// processor, perhaps to the poller.
constexpr int kPollsBeforeYielding = 2000;

}  // namespace

void PhasedLoop::call(PhaseFunction body, void* context, std::int64_t phase,
                      std::int64_t part) noexcept {
    try {
        body(context, phase, part);
    } catch (...) {
        const std::scoped_lock lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
        failed_.store(true, std::memory_order_relaxed);
    }
}

void PhasedLoop::take_part(std::span<const std::int64_t> parts, std::int64_t first,
                           std::int64_t last, std::int64_t own_part, PhaseFunction body,
                           void* context) {
    for (std::int64_t phase = first; phase < last; ++phase) {
        const std::int64_t number = phases_before_ + phase;
        const std::int64_t count = parts[static_cast<std::size_t>(phase)];
        const auto part_at = [&](std::int64_t i) {
            return static_cast<std::size_t>((own_part + i) % count);
        };
        for (std::int64_t i = 0; i < count; ++i) {
            Part& part = parts_[part_at(i)];
            std::int64_t before = part.taken.load(std::memory_order_relaxed);
            if (before >= number ||
                !part.taken.compare_exchange_strong(before, number, std::memory_order_relaxed)) {
                continue;
            }
            // After a failure parts are only counted, so that nobody waits for them.
            if (!failed_.load(std::memory_order_relaxed)) {
                call(body, context, phase, static_cast<std::int64_t>(part_at(i)));
            }
            part.ended.store(number, std::memory_order_release);
        }
        for (std::int64_t i = 0; i < count; ++i) {
            const Part& part = parts_[part_at(i)];
            for (int polls = 0; part.ended.load(std::memory_order_acquire) < number;) {
                if (++polls < kPollsBeforeYielding) {
                    cpu_pause();
                } else {
                    std::this_thread::yield();
                }
            }
        }
    }
}

void PhasedLoop::run(std::span<const std::int64_t> parts, PhaseFunction body, void* context) {
    const std::int64_t most = parts.empty() ? 0 : *std::max_element(parts.begin(), parts.end());
    if (std::ssize(parts_) < most) parts_ = std::vector<Part>(static_cast<std::size_t>(most));
    failed_.store(false, std::memory_order_relaxed);
    for (std::int64_t phase = 0; phase < std::ssize(parts);) {
        std::int64_t last = phase, threads = 1;
        for (; last < std::ssize(parts) && parts[static_cast<std::size_t>(last)] > 1; ++last) {
            threads = std::max(threads, parts[static_cast<std::size_t>(last)]);
        }
        if (last == phase) {
            call(body, context, phase, 0);
            ++last;
        } else {
            parallel_for(std::min<std::int64_t>(threads, num_threads()), 1,
                         [&](std::int64_t, std::int64_t) {
                             take_part(parts, phase, last, worker_number(), body, context);
                         });
        }
        if (failed_.load(std::memory_order_relaxed)) break;
        phase = last;
    }
    phases_before_ += std::ssize(parts);
    if (failed_.load(std::memory_order_relaxed)) {
        std::rethrow_exception(std::exchange(failure_, nullptr));
    }
}

}  // namespace tempra::platform
