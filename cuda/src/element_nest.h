// How the elements of several views of equal sizes are walked together: dimensions dropped, sorted
// and merged until few are left, then cut into packs of up to 16 bytes per operand. Plain C++ and
// host-tested; the device part is one function that turns a pack's number into offsets.
//
// Dimensions of size 1 go; the rest are sorted by the stride of operand 0 (the output), so that
// neighbouring threads write neighbouring elements; neighbours that every operand walks as one are
// merged. Packs are used where, for every operand, the innermost stride is 1 and rows start on a
// pack's boundary, or the innermost stride is 0 (a broadcast value). A single row may end in a
// partial pack; several rows must be whole packs each, else elements go one by one.
#pragma once

#include <cstdint>

#include "fast_divide.h"
#include "tempra/tensor_view.h"

namespace tempra::cuda {

inline constexpr int kPackBytes = 16;

template <int kOperands>
struct ElementNest {
    std::int64_t packs = 0;     // threads of work
    std::int64_t elements = 0;  // of one operand
    std::int32_t pack = 1;      // elements in a pack
    std::int32_t dimensions = 0;
    std::int32_t wide = 0;                    // too many packs for 32-bit arithmetic
    std::int64_t sizes[kMaxDimensions] = {};  // outermost first; the innermost counts packs
    FastDivide dividers[kMaxDimensions];
    // In elements; the innermost is per pack.
    std::int64_t strides[kOperands][kMaxDimensions] = {};
    bool broadcast_inside[kOperands] = {};  // the same value for a whole pack

    TEMPRA_HOST_DEVICE void offsets(std::int64_t index, std::int64_t (&offset)[kOperands]) const {
        for (int k = 0; k < kOperands; ++k) offset[k] = 0;
        for (int d = dimensions - 1; d > 0; --d) {
            std::int64_t quotient;
            if (wide != 0) {
                quotient = index / sizes[d];
            } else {
                quotient = dividers[d].quotient(static_cast<std::uint32_t>(index));
            }
            const std::int64_t rest = index - quotient * sizes[d];
            for (int k = 0; k < kOperands; ++k) offset[k] += rest * strides[k][d];
            index = quotient;
        }
        for (int k = 0; k < kOperands; ++k) offset[k] += index * strides[k][0];
    }
    // Elements of this pack that exist; less than `pack` only in the last pack of a single row.
    [[nodiscard]] TEMPRA_HOST_DEVICE int elements_in(std::int64_t index) const {
        const std::int64_t left = elements - index * pack;
        return left < pack ? static_cast<int>(left) : pack;
    }
};

namespace element_nest_detail {

struct Dimension {
    std::int64_t size;
    std::int64_t strides[kMaxDimensions];  // per operand
};

inline bool merges(const Dimension& outer, const Dimension& inner, int operands) {
    for (int k = 0; k < operands; ++k) {
        if (outer.strides[k] != inner.size * inner.strides[k]) return false;
    }
    return true;
}

inline int collapse(const TensorView* const* views, int operands, Dimension* dimensions) {
    int count = 0;
    for (int d = 0; d < views[0]->dimensions; ++d) {
        if (views[0]->sizes[d] == 1) continue;
        Dimension added{views[0]->sizes[d], {}};
        for (int k = 0; k < operands; ++k) added.strides[k] = views[k]->strides[d];
        int at = count++;
        for (; at > 0 && dimensions[at - 1].strides[0] < added.strides[0]; --at) {
            dimensions[at] = dimensions[at - 1];
        }
        dimensions[at] = added;
    }
    int kept = 0;
    for (int d = 1; d < count; ++d) {
        if (merges(dimensions[kept], dimensions[d], operands)) {
            const std::int64_t size = dimensions[kept].size;
            dimensions[kept] = dimensions[d];
            dimensions[kept].size *= size;
        } else {
            dimensions[++kept] = dimensions[d];
        }
    }
    return count == 0 ? 0 : kept + 1;
}

// Whether packs of `pack` elements fit: see the top of this file.
inline bool packs_fit(const TensorView* const* views, int operands, const Dimension* dimensions,
                      int count, std::int64_t pack) {
    const Dimension& inner = dimensions[count - 1];
    if (inner.strides[0] != 1 || (count > 1 && inner.size % pack != 0)) return false;
    for (int k = 0; k < operands; ++k) {
        if (inner.strides[k] == 0) continue;
        if (inner.strides[k] != 1) return false;
        const std::int64_t bytes = pack * size_of(views[k]->dtype);
        if (reinterpret_cast<std::uintptr_t>(views[k]->data) % static_cast<std::uintptr_t>(bytes)) {
            return false;
        }
        for (int d = 0; d + 1 < count; ++d) {
            if (dimensions[d].strides[k] % pack != 0) return false;
        }
    }
    return true;
}

}  // namespace element_nest_detail

// Operand 0 is the output. The views have equal sizes. `pack` of the result is 1 or the largest
// number of elements of which no operand's take more than kPackBytes. `largest_pack` 1: element by
// element, whatever the layout.
template <int kOperands>
[[nodiscard]] ElementNest<kOperands> element_nest(const TensorView* const (&views)[kOperands],
                                                  std::int64_t largest_pack = kPackBytes) {
    using namespace element_nest_detail;
    static_assert(kOperands <= kMaxDimensions);
    ElementNest<kOperands> nest;
    nest.elements = views[0]->numel();
    if (nest.elements == 0) return nest;
    Dimension dimensions[kMaxDimensions];
    int count = collapse(views, kOperands, dimensions);
    if (count == 0) {  // one element
        dimensions[0] = {1, {}};
        for (int k = 0; k < kOperands; ++k) dimensions[0].strides[k] = 1;
        count = 1;
    }
    std::int64_t pack = largest_pack;
    for (const TensorView* view : views) {
        const std::int64_t most = kPackBytes / size_of(view->dtype);
        if (most < pack) pack = most;
    }
    if (!packs_fit(views, kOperands, dimensions, count, pack)) pack = 1;
    nest.pack = static_cast<std::int32_t>(pack);
    nest.dimensions = count;
    nest.packs = 1;
    for (int d = 0; d < count; ++d) {
        const bool inner = d == count - 1;
        nest.sizes[d] = inner ? (dimensions[d].size + pack - 1) / pack : dimensions[d].size;
        nest.packs *= nest.sizes[d];
        for (int k = 0; k < kOperands; ++k) {
            nest.strides[k][d] = dimensions[d].strides[k] * (inner ? pack : 1);
            if (inner) nest.broadcast_inside[k] = dimensions[d].strides[k] == 0;
        }
    }
    nest.wide = nest.packs >= (std::int64_t{1} << 31) ? 1 : 0;
    if (nest.wide == 0) {
        for (int d = 0; d < count; ++d) {
            nest.dividers[d] = FastDivide(static_cast<std::uint32_t>(nest.sizes[d]));
        }
    }
    return nest;
}

}  // namespace tempra::cuda
