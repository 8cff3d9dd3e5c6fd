// Adds up partial rows [chunks, columns] of fp32 into `out[column] +=`, in a fixed order: a thread
// of row r of the block takes chunks r, r + 32, ...; the 32 sums of a column are then added in
// turn.
#pragma once

#include <cuda_runtime.h>

#include "error_message.h"
#include "launch_shape.h"
#include "tempra/tensor_view.h"

namespace tempra::cuda {

inline constexpr int kPartialLanes = 32;

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
