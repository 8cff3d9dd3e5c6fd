// Launch shapes of kernels that work on rows [rows, columns] with unit column stride. Plain C++ and
// host-tested.
#pragma once

#include <cstdint>

#include "launch_shape.h"
#include "tempra/tensor_view.h"

namespace tempra::cuda {

inline constexpr int kMostRowThreads = 512;

// Threads that share a row: whole warps, a pack of elements each, no more than the row has work
// for.
[[nodiscard]] constexpr int row_threads(std::int64_t columns, int pack) {
    const std::int64_t warps = divide_up(divide_up(columns, pack), 32);
    if (warps < 1) return 32;
    return warps * 32 < kMostRowThreads ? static_cast<int>(warps) * 32 : kMostRowThreads;
}

// Whether rows of this view start on 16-byte boundaries; absent views do not mind.
[[nodiscard]] inline bool rows_are_aligned(const TensorView& view) {
    if (!view.present()) return true;
    const auto address = reinterpret_cast<std::uintptr_t>(view.data);
    if (address % 16 != 0 || view.stride(-1) != 1) return view.numel() == 0;
    return view.dimensions < 2 || view.size(0) <= 1 ||
           view.stride(0) * size_of(view.dtype) % 16 == 0;
}

// Rows are cut into chunks, one block each, whose sums over rows are added up afterwards in order.
// The cut depends on the number of rows alone.
struct RowChunks {
    std::int64_t count = 0, rows_each = 0;
};
inline constexpr std::int64_t kMostRowChunks = 512;

[[nodiscard]] constexpr RowChunks row_chunks(std::int64_t rows) {
    if (rows <= 0) return {};
    const std::int64_t each = divide_up(rows, kMostRowChunks);
    return {divide_up(rows, each), each};
}

// Accumulators of `arrays` rows of fp32 in shared memory, where they fit into what every device has
// without asking; 0: they are kept in device memory.
inline constexpr std::int64_t kPlainSharedBytes = 48 * 1024 - 512;  // 512: for block_reduce

[[nodiscard]] constexpr std::int64_t shared_accumulator_bytes(std::int64_t columns, int arrays) {
    const std::int64_t bytes = columns * arrays * 4;
    return bytes <= kPlainSharedBytes ? bytes : 0;
}

}  // namespace tempra::cuda
