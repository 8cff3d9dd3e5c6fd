// Sums of columns: a block takes those of its chunk of rows, which it leaves as one partial row of
// fp32 [chunks, columns]; partial rows are then added up into `out[column] +=`, in a fixed order: a
// thread of row r of the block takes chunks r, r + 32, ...; the 32 sums of a column are then added
// in turn.
#pragma once

#include <cuda_runtime.h>

#include "error_message.h"
#include "launch_shape.h"
#include "row_walk.cuh"
#include "tempra/tensor_view.h"

namespace tempra::cuda {

inline constexpr int kPartialLanes = 32;

// A chunk's sums while they grow: in shared memory, or in the partial row where that has no room
// for them. A thread only ever touches the sums of its own columns, so they need no barrier.
struct ColumnSums {
    float* sums;  // null: not wanted
    float* row;   // the chunk's partial row

    // `shared`: null where there is no room.
    __device__ __forceinline__ ColumnSums(float* partials, float* shared, std::int64_t chunk,
                                          std::int64_t columns)
        : sums(nullptr), row(nullptr) {
        if (partials == nullptr) return;
        row = partials + chunk * columns;
        sums = shared != nullptr ? shared : row;
    }
    [[nodiscard]] __device__ __forceinline__ bool wanted() const { return sums != nullptr; }

    template <int kPack>
    __device__ __forceinline__ void clear(std::int64_t columns) const {
        if (!wanted()) return;
        for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
            for (int k = 0; k < count; ++k) sums[i + k] = 0;
        });
    }
    template <int kPack>
    __device__ __forceinline__ void leave(std::int64_t columns) const {
        if (sums == row) return;
        for_each_pack<kPack>(columns, [&](std::int64_t i, int count) {
            for (int k = 0; k < count; ++k) row[i + k] = sums[i + k];
        });
    }
};

// Not a template, so `static`: every file has its own.
static __global__ void __launch_bounds__(kPartialLanes* kPartialLanes)
    add_partial_rows(const float* partials, std::int64_t chunks, std::int64_t columns, float* out,
                     std::int64_t out_stride) {
    __shared__ float sums[kPartialLanes][kPartialLanes + 1];  // + 1: no bank conflicts
    const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kPartialLanes + threadIdx.x;
    float sum = 0;
    if (column < columns) {
        for (std::int64_t chunk = threadIdx.y; chunk < chunks; chunk += kPartialLanes) {
            sum += partials[chunk * columns + column];
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= columns) return;
    for (int lane = 1; lane < kPartialLanes; ++lane) sum += sums[lane][threadIdx.x];
    out[column * out_stride] += sum;
}

[[nodiscard]] static inline TempraCudaStatus launch_add_partial_rows(const char* name, void* stream,
                                                                     const float* partials,
                                                                     std::int64_t chunks,
                                                                     const TensorView& out) {
    const std::int64_t columns = out.numel();
    const auto grid = static_cast<unsigned>(grid_for(columns, kPartialLanes));
    add_partial_rows<<<grid, dim3(kPartialLanes, kPartialLanes), 0,
                       static_cast<cudaStream_t>(stream)>>>(partials, chunks, columns,
                                                            out.as<float>(), out.stride(-1));
    return finish_launch(name, stream);
}

}  // namespace tempra::cuda
