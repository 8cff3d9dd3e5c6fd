// What the arena kernels share: packs of four fp32 within a piece, and the check of the segments.
#pragma once

#include "arena_walk.h"
#include "device_fault.h"

namespace tempra::cuda {

// body(i, whole): `whole` tells that elements i to i + 3 lie in the piece and may be accessed as
// one; else body is called for single elements. One call per thread and turn.
template <class Body>
__device__ __forceinline__ void for_each_quad(std::int64_t first, std::int64_t last, bool aligned,
                                              const Body& body) {
    for (std::int64_t quad = first / 4 + threadIdx.x; quad * 4 < last; quad += blockDim.x) {
        const std::int64_t i = quad * 4;
        if (aligned && i >= first && i + 4 <= last) {
            body(i, true);
        } else {
            for (std::int64_t k = i < first ? first : i; k < i + 4 && k < last; ++k) body(k, false);
        }
    }
}

__device__ __forceinline__ void check_segments(const ArenaSegment* segments, std::int64_t count,
                                               std::int32_t* fault) {
    if (blockIdx.x != 0) return;
    for (std::int64_t s = threadIdx.x; s < count; s += blockDim.x) {
        if (!segment_is_in_order(segments, s)) *fault = kSegmentsOutOfOrder;
    }
}

}  // namespace tempra::cuda
