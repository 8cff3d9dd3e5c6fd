// All positions of a tensor's dimensions but one: each is a line along that dimension. Neighbouring
// lines are neighbours in memory of the first operand, so that kernels whose lines are strided can
// take a strip of adjacent ones together.
#pragma once

#include <cstdint>

#include "tempra/tensor_view.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

struct LineNest {
    static constexpr int kMaxOperands = 3;

    int operands = 0;
    int dimensions = 0;  // at least one
    std::int64_t count = 1;
    std::int64_t sizes[kMaxDimensions];
    std::int64_t strides[kMaxOperands][kMaxDimensions];

    // Element offsets of a line's start in each operand.
    void offsets(std::int64_t line, std::int64_t* offset) const {
        for (int k = 0; k < operands; ++k) offset[k] = 0;
        for (int d = dimensions - 1; d >= 0; --d) {
            const std::int64_t index = line % sizes[d];
            line /= sizes[d];
            for (int k = 0; k < operands; ++k) offset[k] += index * strides[k][d];
        }
    }
    [[nodiscard]] std::int64_t inner_size() const { return sizes[dimensions - 1]; }
    [[nodiscard]] std::int64_t inner_stride(int operand) const {
        return strides[operand][dimensions - 1];
    }
};

namespace line_nest_detail {

inline void move(LineNest& nest, int from, int to) {
    nest.sizes[to] = nest.sizes[from];
    for (int k = 0; k < nest.operands; ++k) nest.strides[k][to] = nest.strides[k][from];
}

inline bool can_merge(const LineNest& nest, int outer, int inner) {
    for (int k = 0; k < nest.operands; ++k) {
        if (nest.strides[k][outer] != nest.sizes[inner] * nest.strides[k][inner]) return false;
    }
    return true;
}

inline void merge(LineNest& nest) {
    int kept = 0;
    for (int d = 1; d < nest.dimensions; ++d) {
        if (can_merge(nest, kept, d)) {
            const std::int64_t size = nest.sizes[kept];
            move(nest, d, kept);
            nest.sizes[kept] *= size;
        } else {
            move(nest, d, ++kept);
        }
    }
    nest.dimensions = kept + 1;
}

}  // namespace line_nest_detail

// The sizes are those of *views[0]; `dimension` is left out (-1: of a 0-d tensor).
inline LineNest make_line_nest(const TensorView* const* views, int operands, int dimension) {
    LineNest nest;
    nest.operands = operands;
    const TensorView& first = *views[0];
    for (int d = 0; d < first.dimensions; ++d) {
        if (d == dimension || first.sizes[d] == 1) continue;
        nest.count *= first.sizes[d];
        int at = nest.dimensions++;
        for (; at > 0 && nest.strides[0][at - 1] < first.strides[d]; --at) {
            line_nest_detail::move(nest, at - 1, at);
        }
        nest.sizes[at] = first.sizes[d];
        for (int k = 0; k < operands; ++k) nest.strides[k][at] = views[k]->strides[d];
    }
    if (nest.dimensions == 0) {
        nest.dimensions = 1;
        nest.sizes[0] = 1;
        for (int k = 0; k < operands; ++k) nest.strides[k][0] = 0;
    } else if (nest.count > 0) {
        line_nest_detail::merge(nest);
    }
    return nest;
}

// Elements of work worth a thread's while.
inline constexpr std::int64_t kLineGrain = 32768;

inline std::int64_t lines_per_chunk(std::int64_t length) {
    return length >= kLineGrain ? 1 : kLineGrain / (length > 0 ? length : 1);
}

// body(offsets, n) for strips of at most `strip` adjacent lines, in parallel; lines in a strip are
// `inner_stride(operand)` elements apart.
template <class Body>
void for_each_strip(const LineNest& nest, std::int64_t length, std::int64_t strip,
                    const Body& body) {
    if (nest.count == 0) return;
    const std::int64_t inner = nest.inner_size();
    if (strip > inner) strip = inner;
    const std::int64_t strips = (inner + strip - 1) / strip;
    parallel_for(nest.count / inner * strips, lines_per_chunk(length * strip),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t task = begin; task < end; ++task) {
                         const std::int64_t first = task % strips * strip;
                         std::int64_t offset[LineNest::kMaxOperands];
                         nest.offsets(task / strips * inner + first, offset);
                         body(offset, inner - first < strip ? inner - first : strip);
                     }
                 });
}

// body(offsets) for every line, in parallel.
template <class Body>
void for_each_line(const LineNest& nest, std::int64_t length, const Body& body) {
    parallel_for(nest.count, lines_per_chunk(length), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t line = begin; line < end; ++line) {
            std::int64_t offset[LineNest::kMaxOperands];
            nest.offsets(line, offset);
            body(offset);
        }
    });
}

}  // namespace tempra::cpu::TEMPRA_ISA
