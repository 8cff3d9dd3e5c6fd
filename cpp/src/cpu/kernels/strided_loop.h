// Elementwise loops over up to five operands of any strides.
//
// Dimensions are ordered by the output's strides, and neighbours that all operands step through
// alike are merged, so that a loop over tensors of one layout is one contiguous run. Inner kernels
// only ever see contiguous runs: an operand that is strided or broadcast along the innermost
// dimension is gathered into a small block that stays in the first-level cache (a strided output
// is scattered from one), so that each operation is compiled once per dtype and not per layout.
//
// Work is cut into fixed chunks of kElementGrain elements; a smaller loop stays on one thread. All
// operations are elementwise, so chunks never change a result.
#pragma once

#include <cstdint>

#include "tempra/tensor_view.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr int kMaxOperands = 5;
inline constexpr std::int64_t kElementGrain = 32768;
inline constexpr std::int64_t kBlockElements = 512;

// Operand 0 is the output; strides count elements, dimension 0 is the outermost.
struct StridedLoop {
    int operands = 0;
    int dimensions = 0;
    std::int64_t count = 0;
    std::int64_t sizes[kMaxDimensions];
    std::int64_t strides[kMaxOperands][kMaxDimensions];
    char* data[kMaxOperands];
    std::int64_t element_size[kMaxOperands];
};

// Handles `count` elements that lie back to back in every operand. `operands[0]` is written.
using BlockFunction = void (*)(const void* context, char* const* operands, std::int64_t count);

// All views have the sizes of `*views[0]`, the output.
[[nodiscard]] StridedLoop make_strided_loop(const TensorView* const* views, int count);

void run_strided_loop(const StridedLoop& loop, BlockFunction block, const void* context);

template <class... Views>
void run_elementwise(BlockFunction block, const void* context, const Views&... views) {
    static_assert(sizeof...(Views) <= kMaxOperands);
    const TensorView* const pointers[] = {&views...};
    run_strided_loop(make_strided_loop(pointers, sizeof...(Views)), block, context);
}

// Moves n elements of 1, 2, 4 or 8 bytes between a strided and a contiguous run.
void gather_strided(const char* from, std::int64_t stride, std::int64_t element_size,
                    std::int64_t n, char* to);
void scatter_strided(const char* from, std::int64_t element_size, std::int64_t n, char* to,
                     std::int64_t stride);

}  // namespace tempra::cpu::TEMPRA_ISA
