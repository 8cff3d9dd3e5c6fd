// Running sums over the threads of a block, in a fixed order: within warps by doubling distances,
// then the warps' sums in turn. The block is whole warps, at most 32 of them.
#pragma once

#include <cuda_runtime.h>

namespace tempra::cuda {

// The sum of all earlier threads' values and this one's; `total`: of all. `shared` holds 32 values
// and may be used again by the next call.
template <class A>
__device__ __forceinline__ A block_running_sum(A value, A& total, A* shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const A before = __shfl_up_sync(0xFFFFFFFFU, value, static_cast<unsigned>(distance));
        if (lane >= distance) value += before;
    }
    __syncthreads();  // everyone has read what an earlier call left
    if (lane == 31) shared[warp] = value;
    __syncthreads();
    A before = A{};
    total = A{};
    for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) {
        if (w < warp) before += shared[w];
        total += shared[w];
    }
    return before + value;
}

}  // namespace tempra::cuda
