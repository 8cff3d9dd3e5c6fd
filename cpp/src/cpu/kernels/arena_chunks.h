// Splits an arena into chunks of equal length for parallel loops, whatever its segments: a chunk
// finds its first segment by binary search and walks on from there, so neither a thousand small
// segments nor one large one is uneven. Chunks depend on the segments alone.
#pragma once

#include "dispatch/kernel_table.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

// Segments must ascend by offset without overlap; chunks are counted from the first offset.
inline bool segments_ascend(const ArenaSegment* segments, std::int64_t count) {
    std::int64_t end = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        if (segments[i].offset < end || segments[i].length < 0) return false;
        end = segments[i].offset + segments[i].length;
    }
    return true;
}

struct ArenaRange {
    std::int64_t begin = 0, end = 0;
};

inline ArenaRange arena_range(const ArenaSegment* segments, std::int64_t count) {
    if (count == 0) return {};
    return {segments[0].offset, segments[count - 1].offset + segments[count - 1].length};
}

// The first segment that ends after `position`.
inline std::int64_t segment_at(const ArenaSegment* segments, std::int64_t count,
                               std::int64_t position) {
    std::int64_t low = 0, high = count;
    while (low < high) {
        const std::int64_t middle = low + (high - low) / 2;
        if (segments[middle].offset + segments[middle].length > position) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// body(segment, begin, end) for each unfrozen piece of [begin, end), in order.
template <class Body>
inline void for_each_segment_piece(const ArenaSegment* segments, std::int64_t count,
                                   std::int64_t begin, std::int64_t end, const Body& body) {
    for (std::int64_t i = segment_at(segments, count, begin); i < count; ++i) {
        const ArenaSegment& segment = segments[i];
        if (segment.offset >= end) return;
        if (segment.frozen != 0) continue;
        const std::int64_t segment_end = segment.offset + segment.length;
        const std::int64_t first = segment.offset > begin ? segment.offset : begin;
        const std::int64_t last = segment_end < end ? segment_end : end;
        if (first < last) body(segment, first, last);
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
