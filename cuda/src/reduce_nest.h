// How a reduction over any dimensions is cut into work. Plain C++ and host-tested.
//
// Dimensions are dropped, sorted by stride and merged into kept and reduced ones. Where the
// innermost stride belongs to a reduced dimension, a block takes an output (`by_block`); else a
// thread does, and neighbouring threads take neighbouring outputs. Where there are too few outputs
// to fill a device, the reduced range is cut into chunks whose results are reduced in a second
// pass. All of it depends on shapes and strides alone.
#pragma once

#include <cstdint>

#include "fast_divide.h"
#include "launch_shape.h"
#include "tempra/tensor_view.h"

namespace tempra::cuda {

// Dimensions outermost first; `out_strides` of reduced ones are 0.
struct ReduceDimensions {
    std::int32_t count = 0;
    std::int64_t product = 1;
    std::int64_t sizes[kMaxDimensions] = {};
    std::int64_t in_strides[kMaxDimensions] = {}, out_strides[kMaxDimensions] = {};

    TEMPRA_HOST_DEVICE std::int64_t in_offset(std::int64_t position) const {
        return offset(position, in_strides);
    }
    TEMPRA_HOST_DEVICE std::int64_t out_offset(std::int64_t position) const {
        return offset(position, out_strides);
    }
    TEMPRA_HOST_DEVICE std::int64_t offset(std::int64_t position,
                                           const std::int64_t* strides) const {
        std::int64_t at = 0;
        for (int d = count - 1; d > 0; --d) {
            const std::int64_t rest = position % sizes[d];
            position /= sizes[d];
            at += rest * strides[d];
        }
        return count > 0 ? at + position * strides[0] : 0;
    }

    void insert(std::int64_t size, std::int64_t in_stride, std::int64_t out_stride) {
        product *= size;
        if (size == 1) return;
        int d = count++;
        for (; d > 0 && in_strides[d - 1] < in_stride; --d) move(d - 1, d);
        sizes[d] = size;
        in_strides[d] = in_stride;
        out_strides[d] = out_stride;
    }
    void merge() {
        int kept = 0;
        for (int d = 1; d < count; ++d) {
            if (in_strides[kept] == sizes[d] * in_strides[d] &&
                out_strides[kept] == sizes[d] * out_strides[d]) {
                const std::int64_t size = sizes[kept];
                move(d, kept);
                sizes[kept] *= size;
            } else {
                move(d, ++kept);
            }
        }
        if (count > 0) count = kept + 1;
    }

  private:
    void move(int from, int to) {
        sizes[to] = sizes[from];
        in_strides[to] = in_strides[from];
        out_strides[to] = out_strides[from];
    }
};

struct ReduceNest {
    ReduceDimensions kept, reduced;
    std::int32_t by_block = 0;
    std::int64_t chunks = 1, chunk_elements = 0;
};

inline constexpr int kReduceThreads = 256;

// Enough blocks for the largest devices, and enough work in a chunk to be worth a pass.
inline constexpr std::int64_t kWantedBlocks = 1024;
inline constexpr std::int64_t kChunkMultiple = 8;  // chunks start on a pack of any compute dtype
inline constexpr std::int64_t kLeastPerBlock = 8192, kLeastPerThread = 64;

[[nodiscard]] inline ReduceNest reduce_nest(const TensorView& in, const TensorView& out) {
    ReduceNest nest;
    for (int d = 0; d < in.dimensions; ++d) {
        if (out.sizes[d] == 1 && in.sizes[d] != 1) {
            nest.reduced.insert(in.sizes[d], in.strides[d], 0);
        } else {
            nest.kept.insert(in.sizes[d], in.strides[d], out.strides[d]);
        }
    }
    nest.kept.merge();
    nest.reduced.merge();
    const auto innermost = [](const ReduceDimensions& dimensions) {
        return dimensions.count > 0 ? dimensions.in_strides[dimensions.count - 1] : INT64_MAX;
    };
    nest.by_block = innermost(nest.reduced) <= innermost(nest.kept) ? 1 : 0;
    nest.chunk_elements = nest.reduced.product;
    const std::int64_t outputs = nest.kept.product;
    if (outputs == 0 || nest.reduced.product == 0) return nest;
    const std::int64_t workers = nest.by_block != 0 ? outputs : divide_up(outputs, kReduceThreads);
    if (workers < kWantedBlocks) {
        const std::int64_t least = nest.by_block != 0 ? kLeastPerBlock : kLeastPerThread;
        const std::int64_t wanted =
            divide_up(nest.reduced.product, divide_up(kWantedBlocks, workers));
        const std::int64_t each = wanted > least ? wanted : least;
        nest.chunk_elements = divide_up(each, kChunkMultiple) * kChunkMultiple;
        nest.chunks = divide_up(nest.reduced.product, nest.chunk_elements);
    }
    return nest;
}

// The second pass: `chunks` partial results of every output, stored [outputs, chunks].
[[nodiscard]] inline ReduceNest second_pass(const ReduceNest& first) {
    ReduceNest nest;
    std::int64_t in_stride = first.chunks;
    nest.kept = first.kept;
    for (int d = nest.kept.count - 1; d >= 0; --d) {
        nest.kept.in_strides[d] = in_stride;
        in_stride *= nest.kept.sizes[d];
    }
    nest.reduced.insert(first.chunks, 1, 0);
    nest.by_block = 1;
    nest.chunk_elements = first.chunks;
    return nest;
}

}  // namespace tempra::cuda
