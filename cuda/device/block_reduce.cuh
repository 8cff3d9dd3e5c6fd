// One value from all threads of a block, known to all of them. The order is fixed: a butterfly
// within warps, then the warps' values in turn. The block is whole warps, at most 32 of them.
#pragma once

#include <cuda_runtime.h>

namespace tempra::cuda {

struct Add {
    template <class A>
    __device__ __forceinline__ A operator()(A a, A b) const {
        return a + b;
    }
};
// NaN does not count: the larger number.
struct Larger {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <class A, class Combine>
__device__ __forceinline__ A warp_reduce(A value, const Combine& combine) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = combine(value, __shfl_xor_sync(0xFFFFFFFFU, value, distance));
    }
    return value;
}

// `shared` holds 32 values; it may be used again by the next call.
template <class A, class Combine>
__device__ __forceinline__ A block_reduce(A value, const Combine& combine, A* shared) {
    value = warp_reduce(value, combine);
    const int warps = static_cast<int>(blockDim.x) / 32;
    if (warps == 1) return value;
    __syncthreads();  // everyone has read what an earlier call left
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    A total = shared[0];
    for (int warp = 1; warp < warps; ++warp) total = combine(total, shared[warp]);
    return total;
}

}  // namespace tempra::cuda
