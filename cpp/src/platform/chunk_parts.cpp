#include "platform/chunk_parts.h"

#include <algorithm>

namespace tempra::platform {

namespace {

// Part::taken: loop number (32 bits) | claims taken (32 bits). There are fewer than 128 claims a
// thread (threads.cpp), far under 2^32.
constexpr int kNumberShift = 32;
constexpr std::uint64_t kTakenMask = (std::uint64_t{1} << kNumberShift) - 1;

void run_chunks(const LoopJob& job, std::int64_t first, std::int64_t last) {
    for (std::int64_t chunk = first; chunk < last; ++chunk) {
        const std::int64_t begin = chunk * job.grain;
        const std::int64_t end = job.count - begin > job.grain ? begin + job.grain : job.count;
        job.body(job.context, begin, end);
    }
}

}  // namespace

void ChunkParts::resize(int threads) {
    if (std::ssize(parts_) != threads)
        parts_ = std::vector<Part>(static_cast<std::size_t>(threads));
}

void ChunkParts::begin(const LoopJob& job) noexcept {
    claims_ = (job.chunks - 1) / job.chunks_per_claim + 1;
    used_ = job.in_order ? 1 : std::min<std::int64_t>(std::ssize(parts_), claims_);
    // Parts of another loop count as untouched, so that none needs to be reset here: their lines
    // are in other threads' caches. Only when numbers begin again a part might seem to be of this
    // loop that was last touched 2^32 loops ago.
    if (++loop_ == 0) {
        for (Part& part : parts_) part.taken.store(0, std::memory_order_relaxed);
        loop_ = 1;
    }
}

std::int64_t ChunkParts::take(Part& part, std::int64_t count) const noexcept {
    const std::uint64_t number = std::uint64_t{loop_} << kNumberShift;
    std::uint64_t before = part.taken.load(std::memory_order_relaxed);
    while (true) {
        const std::uint64_t taken = (before & ~kTakenMask) == number ? before & kTakenMask : 0;
        if (static_cast<std::int64_t>(taken) >= count) return -1;
        if (part.taken.compare_exchange_weak(before, number | (taken + 1),
                                             std::memory_order_relaxed)) {
            return static_cast<std::int64_t>(taken);
        }
    }
}

void ChunkParts::run(const LoopJob& job, int own) {
    // Parts differ by one claim at most; the longer ones come first.
    const std::int64_t claims = claims_ / used_, longer = claims_ % used_;
    const std::int64_t first_part = own % used_;
    for (std::int64_t i = 0, number = first_part; i < used_; ++i) {
        const std::int64_t first_claim = number * claims + std::min(number, longer);
        const std::int64_t count = claims + (number < longer ? 1 : 0);
        Part& part = parts_[static_cast<std::size_t>(number)];
        for (std::int64_t claim; (claim = take(part, count)) >= 0;) {
            const std::int64_t first = (first_claim + claim) * job.chunks_per_claim;
            run_chunks(job, first, first + std::min(job.chunks_per_claim, job.chunks - first));
        }
        if (++number == used_) number = 0;
    }
}

}  // namespace tempra::platform
