// out = index of the first largest or smallest element along one dimension; NaN counts as extreme.
//
// Bytes moved: in once. Thread-to-data: a block of 256 threads per line, every 256th element a
// thread; threads' results are merged by value and then by position, so the result does not depend
// on the order: deterministic. Lines of strided tensors are read as they lie.
#include "devices.h"
#include "element_map.cuh"
#include "line_nest.h"

namespace tempra::cuda {

namespace {

constexpr int kThreads = 256;

template <class A>
struct Found {
    A value;
    std::int64_t index;  // -1: nothing yet
};

template <class A>
__device__ __forceinline__ bool is_nan(A x) {
    return x != x;
}

template <class A>
__device__ __forceinline__ Found<A> better(const Found<A>& a, const Found<A>& b, bool maximum) {
    if (a.index < 0) return b;
    if (b.index < 0) return a;
    const bool a_nan = is_nan(a.value), b_nan = is_nan(b.value);
    const bool equal = (a_nan && b_nan) || a.value == b.value;
    if (equal) return a.index < b.index ? a : b;
    if (a_nan || b_nan) return a_nan ? a : b;
    return (a.value > b.value) == maximum ? a : b;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    find_extremes(const __grid_constant__ LineNest<2> nest, const T* in, std::int64_t* out,
                  bool maximum) {
    using A = Arithmetic<T>;
    __shared__ Found<A> warps[kThreads / 32];
    std::int64_t offset[2];
    nest.starts.offsets(blockIdx.x, offset);
    Found<A> best{A{}, -1};
    for (std::int64_t i = threadIdx.x; i < nest.length; i += kThreads) {
        best = better(best, Found<A>{to_arithmetic(in[offset[0] + i * nest.steps[0]]), i}, maximum);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const Found<A> other{__shfl_xor_sync(0xFFFFFFFFU, best.value, distance),
                             __shfl_xor_sync(0xFFFFFFFFU, best.index, distance)};
        best = better(best, other, maximum);
    }
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < kThreads / 32; ++warp) best = better(best, warps[warp], maximum);
    out[offset[1]] = best.index;
}

KernelStatus arg_reduce(const KernelContext& context, std::int32_t maximum, const TensorView& in,
                        std::int32_t dimension, const TensorView& out) {
    if (out.dtype != DType::i64) return kKernelUnsupportedDtype;
    const TensorView* const views[2] = {&in, &out};
    const LineNest<2> nest = line_nest(views, dimension);
    const std::int64_t blocks = grid_for(nest.lines(), 1);
    const KernelStatus status = check_launch("arg_reduce", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    if (nest.length == 0) return fail(kKernelFailed, "arg_reduce: there is nothing to choose from");
    const auto launch = [&](auto tag) -> KernelStatus {
        using T = decltype(tag);
        find_extremes<T><<<static_cast<unsigned>(blocks), kThreads, 0,
                           static_cast<cudaStream_t>(context.stream)>>>(
            nest, in.as<const T>(), out.as<std::int64_t>(), maximum != 0);
        return finish_launch("arg_reduce", context.stream);
    };
    switch (in.dtype) {
        case DType::f32: return launch(float{});
        case DType::bf16: return launch(bfloat16{});
        case DType::f16: return launch(float16{});
        case DType::i64: return launch(std::int64_t{});
        case DType::i32: return launch(std::int32_t{});
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_arg_reduce(KernelTable& table) { table.arg_reduce = arg_reduce; }

}  // namespace tempra::cuda
