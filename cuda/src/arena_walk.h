// Walking an arena's segments in chunks of a fixed number of elements, on the host (tests) and the
// device alike. Chunks lie on multiples of kArenaChunk elements of the arena, so packs of four in
// them are aligned when the arena is.
#pragma once

#include <cstdint>

#include "dispatch/kernel_table.h"
#include "fast_divide.h"
#include "launch_shape.h"

namespace tempra::cuda {

inline constexpr std::int64_t kArenaChunk = 8192;
inline constexpr int kArenaBlocks = 1024;  // of the whole grid; each takes every 1024th chunk
inline constexpr int kArenaThreads = 256;

// The first segment that ends behind `position`; `count` when there is none.
[[nodiscard]] TEMPRA_HOST_DEVICE std::int64_t segment_after(const ArenaSegment* segments,
                                                            std::int64_t count,
                                                            std::int64_t position) {
    std::int64_t low = 0, high = count;
    while (low < high) {
        const std::int64_t middle = (low + high) / 2;
        if (segments[middle].offset + segments[middle].length > position) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// body(segment, first, last) for every piece of an unfrozen segment in the chunks of one block.
template <class Body>
TEMPRA_HOST_DEVICE void for_each_arena_piece(const ArenaSegment* segments, std::int64_t count,
                                             std::int64_t block, std::int64_t blocks,
                                             const Body& body) {
    if (count == 0) return;
    const std::int64_t end = segments[count - 1].offset + segments[count - 1].length;
    std::int64_t chunk = segments[0].offset / kArenaChunk + block;
    for (; chunk * kArenaChunk < end; chunk += blocks) {
        const std::int64_t from = chunk * kArenaChunk, to = from + kArenaChunk;
        for (std::int64_t s = segment_after(segments, count, from); s < count; ++s) {
            const ArenaSegment segment = segments[s];
            if (segment.offset >= to) break;
            if (segment.frozen != 0 || segment.length == 0) continue;
            const std::int64_t last = segment.offset + segment.length;
            body(segment, segment.offset > from ? segment.offset : from, last < to ? last : to);
        }
    }
}

// Segments ascend and do not overlap: does this one follow the one before it?
[[nodiscard]] TEMPRA_HOST_DEVICE bool segment_is_in_order(const ArenaSegment* segments,
                                                          std::int64_t at) {
    if (segments[at].length < 0 || segments[at].offset < 0) return false;
    return at == 0 || segments[at - 1].offset + segments[at - 1].length <= segments[at].offset;
}

}  // namespace tempra::cuda
