// out[i] = function(a[i]) and out[i] = function(a[i], b[i]) over an ElementNest: one thread per
// pack. Operand 0 of the nest is the output.
#pragma once

#include <cuda_runtime.h>

#include "element_nest.h"
#include "error_message.h"
#include "kernel_table.h"
#include "launch_shape.h"
#include "vector_io.cuh"

namespace tempra::cuda {

template <class T, int kPack>
__device__ __forceinline__ void load_operand(const T* data, std::int64_t offset, bool broadcast,
                                             int count, Arithmetic<T> (&to)[kPack]) {
    const T* const from = data + offset;
    if constexpr (kPack == 1) {
        to[0] = to_arithmetic(*from);
    } else if (broadcast) {
        const Arithmetic<T> value = to_arithmetic(*from);
#pragma unroll
        for (int i = 0; i < kPack; ++i) to[i] = value;
    } else if (count == kPack) {
        load_whole<T, kPack>(from, to);
    } else {
        load_first<T, kPack>(from, count, Arithmetic<T>{}, to);
    }
}

template <class T, int kPack>
__device__ __forceinline__ void store_operand(const Arithmetic<T> (&from)[kPack], int count,
                                              T* to) {
    if constexpr (kPack == 1) {
        *to = from_arithmetic<T>(from[0]);
    } else if (count == kPack) {
        store_whole<T, kPack>(from, to);
    } else {
        store_first<T, kPack>(from, count, to);
    }
}

__device__ __forceinline__ std::int64_t thread_number() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <int kPack, class Out, class A, class Function>
__global__ void __launch_bounds__(kElementwiseThreads)
    map_one(const __grid_constant__ ElementNest<2> nest, Out* out, const A* a,
            const Function function) {
    const std::int64_t pack = thread_number();
    if (pack >= nest.packs) return;
    std::int64_t offset[2];
    nest.offsets(pack, offset);
    const int count = kPack == 1 ? 1 : nest.elements_in(pack);
    Arithmetic<A> x[kPack];
    Arithmetic<Out> y[kPack];
    load_operand<A, kPack>(a, offset[1], nest.broadcast_inside[1], count, x);
#pragma unroll
    for (int i = 0; i < kPack; ++i) y[i] = function(x[i]);
    store_operand<Out, kPack>(y, count, out + offset[0]);
}

template <int kPack, class Out, class A, class B, class Function>
__global__ void __launch_bounds__(kElementwiseThreads)
    map_two(const __grid_constant__ ElementNest<3> nest, Out* out, const A* a, const B* b,
            const Function function) {
    const std::int64_t pack = thread_number();
    if (pack >= nest.packs) return;
    std::int64_t offset[3];
    nest.offsets(pack, offset);
    const int count = kPack == 1 ? 1 : nest.elements_in(pack);
    Arithmetic<A> x[kPack];
    Arithmetic<B> y[kPack];
    Arithmetic<Out> z[kPack];
    load_operand<A, kPack>(a, offset[1], nest.broadcast_inside[1], count, x);
    load_operand<B, kPack>(b, offset[2], nest.broadcast_inside[2], count, y);
#pragma unroll
    for (int i = 0; i < kPack; ++i) z[i] = function(x[i], y[i]);
    store_operand<Out, kPack>(z, count, out + offset[0]);
}

// Elements in a pack when all operands are walked back to back.
template <class... T>
inline constexpr int kPackOfAll = [] {
    int pack = 16;
    ((pack = pack < kPackOf<T> ? pack : kPackOf<T>), ...);
    return pack;
}();

// Why a launch cannot be: no stream, or more blocks than a grid has.
[[nodiscard]] inline KernelStatus check_launch(const char* name, const KernelContext& context,
                                               std::int64_t blocks) {
    if (context.stream == nullptr) {
        return fail(kKernelFailed, std::string(name) + ": no stream given");
    }
    if (blocks < 0) return fail(kKernelFailed, std::string(name) + ": too many elements");
    return kKernelOk;
}

// `fast` is compiled for packs, `slow` for element by element: they may differ in that `slow`
// chooses its operation at run time, so that there is one such kernel and not one per operation.
template <class Out, class A, class Fast, class Slow>
[[nodiscard]] KernelStatus launch_map(const char* name, const KernelContext& context,
                                      const TensorView& out, const TensorView& a, const Fast& fast,
                                      const Slow& slow) {
    const TensorView* const views[2] = {&out, &a};
    const ElementNest<2> nest = element_nest(views);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch(name, context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const auto grid = static_cast<unsigned>(blocks);
    const auto stream = static_cast<cudaStream_t>(context.stream);
    if (nest.pack == 1) {
        map_one<1, Out, A>
            <<<grid, kElementwiseThreads, 0, stream>>>(nest, out.as<Out>(), a.as<const A>(), slow);
    } else {
        map_one<kPackOfAll<Out, A>, Out, A>
            <<<grid, kElementwiseThreads, 0, stream>>>(nest, out.as<Out>(), a.as<const A>(), fast);
    }
    return finish_launch(name, context.stream);
}

template <class Out, class A, class B, class Fast, class Slow>
[[nodiscard]] KernelStatus launch_map(const char* name, const KernelContext& context,
                                      const TensorView& out, const TensorView& a,
                                      const TensorView& b, const Fast& fast, const Slow& slow) {
    const TensorView* const views[3] = {&out, &a, &b};
    const ElementNest<3> nest = element_nest(views);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch(name, context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const auto grid = static_cast<unsigned>(blocks);
    const auto stream = static_cast<cudaStream_t>(context.stream);
    if (nest.pack == 1) {
        map_two<1, Out, A, B><<<grid, kElementwiseThreads, 0, stream>>>(
            nest, out.as<Out>(), a.as<const A>(), b.as<const B>(), slow);
    } else {
        map_two<kPackOfAll<Out, A, B>, Out, A, B><<<grid, kElementwiseThreads, 0, stream>>>(
            nest, out.as<Out>(), a.as<const A>(), b.as<const B>(), fast);
    }
    return finish_launch(name, context.stream);
}

}  // namespace tempra::cuda
