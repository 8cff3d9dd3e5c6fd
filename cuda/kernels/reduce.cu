// out = op over any set of dimensions of in: sum, mean, maximum, minimum, product.
//
// Bytes moved: in once, out once; where the reduced range is cut, 4 bytes per chunk and output
// besides. Thread-to-data (reduce_nest.h): where the innermost dimension is reduced, one block per
// output and chunk, its threads a pack of 16 bytes each per turn where the range is contiguous and
// aligned; else one thread per output and chunk (per pack of outputs, where a pack of them is read
// as one), neighbours on neighbouring outputs. fp32
// accumulation over short runs (a thread's share of a chunk), then a fixed tree. Deterministic:
// chunks come from shapes and strides alone, no atomics. Maximum and minimum propagate NaN.
#include "block_reduce.cuh"
#include "devices.h"
#include "element_map.cuh"
#include "integer_parts.h"
#include "parameter_types.cuh"
#include "reduce_nest.h"
#include "row_walk.cuh"

namespace tempra::cuda {

namespace {

template <ReduceOp kOp>
struct Combine {
    static constexpr float identity() {
        if constexpr (kOp == ReduceOp::maximum) return -__builtin_inff();
        if constexpr (kOp == ReduceOp::minimum) return __builtin_inff();
        return kOp == ReduceOp::product ? 1.0F : 0.0F;
    }
    __device__ __forceinline__ float operator()(float a, float b) const {
        if constexpr (kOp == ReduceOp::maximum) return a > b || a != a ? a : b;
        if constexpr (kOp == ReduceOp::minimum) return a < b || a != a ? a : b;
        if constexpr (kOp == ReduceOp::product) return a * b;
        return a + b;
    }
};

// Results go to `out`, or as fp32 to partials [outputs, chunks] when that is not null.
template <class T, class Out>
struct ReduceWork {
    ReduceNest nest;
    const T* in;
    Out* out;
    float* partials;
    float divisor;
};

template <class T, class Out>
__device__ __forceinline__ void write_result(const ReduceWork<T, Out>& work, std::int64_t output,
                                             std::int64_t chunk, float value) {
    if (work.partials != nullptr) {
        work.partials[output * work.nest.chunks + chunk] = value;
    } else {
        work.out[work.nest.kept.out_offset(output)] = from_arithmetic<Out>(value / work.divisor);
    }
}

template <class T>
__device__ __forceinline__ void chunk_range(const T& nest, std::int64_t chunk, std::int64_t& begin,
                                            std::int64_t& end) {
    begin = chunk * nest.chunk_elements;
    end = begin + nest.chunk_elements;
    if (end > nest.reduced.product) end = nest.reduced.product;
}

// Block x: output * chunks + chunk. kPack > 1 only where the reduced range is one aligned run.
template <class T, class Out, int kPack, ReduceOp kOp>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_by_block(const __grid_constant__ ReduceWork<T, Out> work) {
    __shared__ float shared[32];
    constexpr Combine<kOp> combine;
    const std::int64_t output = blockIdx.x / work.nest.chunks;
    const std::int64_t chunk = blockIdx.x - output * work.nest.chunks;
    std::int64_t begin, end;
    chunk_range(work.nest, chunk, begin, end);
    const T* const in = work.in + work.nest.kept.in_offset(output);
    float totals[kPack];
#pragma unroll
    for (int k = 0; k < kPack; ++k) totals[k] = Combine<kOp>::identity();
    for_each_pack<kPack>(end - begin, [&](std::int64_t i, int count) {
        float v[kPack];
        if constexpr (kPack == 1) {
            v[0] = to_arithmetic(in[work.nest.reduced.in_offset(begin + i)]);
        } else {
            load_pack<T, kPack>(in + begin + i, count, Combine<kOp>::identity(), v);
        }
#pragma unroll
        for (int k = 0; k < kPack; ++k) totals[k] = combine(totals[k], v[k]);
    });
    float total = totals[0];
#pragma unroll
    for (int k = 1; k < kPack; ++k) total = combine(total, totals[k]);
    total = block_reduce(total, combine, shared);
    if (threadIdx.x == 0) write_result(work, output, chunk, total);
}

// Block (x, y): packs of outputs x * 256 and on, chunk y. kPack > 1 only where the outputs of a
// pack lie side by side in `in`, aligned.
template <class T, class Out, int kPack, ReduceOp kOp>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_by_thread(const __grid_constant__ ReduceWork<T, Out> work) {
    constexpr Combine<kOp> combine;
    constexpr int kRuns = 4;  // so that as many loads are under way at a time
    const std::int64_t output = thread_number() * kPack;
    if (output >= work.nest.kept.product) return;
    std::int64_t begin, end;
    chunk_range(work.nest, blockIdx.y, begin, end);
    const T* const in = work.in + work.nest.kept.in_offset(output);
    float totals[kRuns][kPack];
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
#pragma unroll
        for (int k = 0; k < kPack; ++k) totals[r][k] = Combine<kOp>::identity();
    }
    const auto add = [&](float(&run)[kPack], std::int64_t i) {
        float v[kPack];
        load_whole<T, kPack>(in + work.nest.reduced.in_offset(i), v);
#pragma unroll
        for (int k = 0; k < kPack; ++k) run[k] = combine(run[k], v[k]);
    };
    std::int64_t i = begin;
    for (; i + kRuns <= end; i += kRuns) {
#pragma unroll
        for (int r = 0; r < kRuns; ++r) add(totals[r], i + r);
    }
    for (; i < end; ++i) add(totals[0], i);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
        const float total =
            combine(combine(totals[0][k], totals[1][k]), combine(totals[2][k], totals[3][k]));
        write_result(work, output + k, blockIdx.y, total);
    }
}

template <class T>
bool range_is_a_run(const ReduceNest& nest, const T* in) {
    if (nest.reduced.count != 1 || nest.reduced.in_strides[0] != 1) return false;
    if (reinterpret_cast<std::uintptr_t>(in) % 16 != 0) return false;
    if (nest.chunks > 1 && nest.chunk_elements % kPackOf<T> != 0) return false;
    for (int d = 0; d < nest.kept.count; ++d) {
        if (nest.kept.in_strides[d] % kPackOf<T> != 0) return false;
    }
    return true;
}

// Whether outputs can be taken a pack at a time: side by side in `in`, whole packs, aligned.
template <class T>
bool outputs_are_packs(const ReduceNest& nest, const T* in) {
    constexpr int kPack = kPackOf<T>;
    const ReduceDimensions& kept = nest.kept;
    if (kept.count == 0 || kept.in_strides[kept.count - 1] != 1) return false;
    if (kept.sizes[kept.count - 1] % kPack != 0) return false;
    if (reinterpret_cast<std::uintptr_t>(in) % 16 != 0) return false;
    for (int d = 0; d + 1 < kept.count; ++d) {
        if (kept.in_strides[d] % kPack != 0) return false;
    }
    for (int d = 0; d < nest.reduced.count; ++d) {
        if (nest.reduced.in_strides[d] % kPack != 0) return false;
    }
    return true;
}

template <class T, class Out, ReduceOp kOp>
KernelStatus launch_pass(const KernelContext& context, const ReduceWork<T, Out>& work) {
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const std::int64_t outputs = work.nest.kept.product;
    if (work.nest.by_block != 0) {
        const std::int64_t blocks = outputs * work.nest.chunks;
        const KernelStatus status = check_launch("reduce", context, grid_for(blocks, 1));
        if (status != kKernelOk) return status;
        const auto kernel = range_is_a_run(work.nest, work.in)
                                ? reduce_by_block<T, Out, kPackOf<T>, kOp>
                                : reduce_by_block<T, Out, 1, kOp>;
        // Short ranges take fewer warps.
        const std::int64_t elements = work.nest.chunk_elements;
        const int threads = elements <= 128 ? 32 : elements <= 1024 ? 64 : kReduceThreads;
        kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(work);
    } else {
        const bool packs = outputs_are_packs(work.nest, work.in);
        const std::int64_t blocks =
            grid_for(divide_up(outputs, packs ? kPackOf<T> : 1), kReduceThreads);
        const KernelStatus status = check_launch("reduce", context, blocks);
        if (status != kKernelOk) return status;
        const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(work.nest.chunks));
        const auto kernel =
            packs ? reduce_by_thread<T, Out, kPackOf<T>, kOp> : reduce_by_thread<T, Out, 1, kOp>;
        kernel<<<grid, kReduceThreads, 0, stream>>>(work);
    }
    return finish_launch("reduce", context.stream);
}

template <class T, class Out, ReduceOp kOp>
KernelStatus launch_reduce(const KernelContext& context, const ReduceNest& nest,
                           const TensorView& in, const TensorView& out, bool mean) {
    const float divisor = mean ? static_cast<float>(nest.reduced.product) : 1.0F;
    ReduceWork<T, Out> work{nest, in.as<const T>(), out.as<Out>(), nullptr, divisor};
    if (nest.chunks == 1) return launch_pass<T, Out, kOp>(context, work);
    const Scratch scratch(nest.kept.product * nest.chunks * 4, context.stream);
    if (!scratch.ok()) return kKernelOutOfMemory;
    work.partials = scratch.as<float>();
    const KernelStatus status = launch_pass<T, Out, kOp>(context, work);
    if (status != kKernelOk) return status;
    return launch_pass<float, Out, kOp>(
        context, {second_pass(nest), work.partials, out.as<Out>(), nullptr, divisor});
}

template <class T, class Out>
KernelStatus reduce_typed(const KernelContext& context, ReduceOp op, const TensorView& in,
                          const TensorView& out) {
    const ReduceNest nest = reduce_nest(in, out);
    if (nest.kept.product == 0) return kKernelOk;
    const bool extreme = op == ReduceOp::maximum || op == ReduceOp::minimum;
    if (nest.reduced.product == 0 && extreme) {
        return fail(kKernelFailed, "reduce: the extreme of nothing does not exist");
    }
    switch (op) {
        case ReduceOp::sum:
        case ReduceOp::mean:
            return launch_reduce<T, Out, ReduceOp::sum>(context, nest, in, out,
                                                        op == ReduceOp::mean);
        case ReduceOp::maximum:
            return launch_reduce<T, Out, ReduceOp::maximum>(context, nest, in, out, false);
        case ReduceOp::minimum:
            return launch_reduce<T, Out, ReduceOp::minimum>(context, nest, in, out, false);
        case ReduceOp::product:
            return launch_reduce<T, Out, ReduceOp::product>(context, nest, in, out, false);
        case ReduceOp::count_: break;
    }
    return fail(kKernelFailed, "reduce: unknown operation");
}

KernelStatus reduce(const KernelContext& context, ReduceOp op, const TensorView& in,
                    const TensorView& out) {
    const KernelStatus status = check_launch("reduce", context, 1);
    if (status != kKernelOk) return status;
    if (in.dtype == DType::f32 && out.dtype == DType::f32) {
        return reduce_typed<float, float>(context, op, in, out);
    }
    if (in.dtype == DType::bf16 && out.dtype == DType::bf16) {
        return reduce_typed<bfloat16, bfloat16>(context, op, in, out);
    }
    if (in.dtype == DType::bf16 && out.dtype == DType::f32) {
        return reduce_typed<bfloat16, float>(context, op, in, out);
    }
    if (in.dtype == DType::f16 && out.dtype == DType::f16) {
        return reduce_typed<float16, float16>(context, op, in, out);
    }
    if (in.dtype == DType::f16 && out.dtype == DType::f32) {
        return reduce_typed<float16, float>(context, op, in, out);
    }
    return is_floating(in.dtype) ? kKernelUnsupportedDtype : reduce_integers(context, op, in, out);
}

}  // namespace

void register_reduce(KernelTable& table) { table.reduce = reduce; }

}  // namespace tempra::cuda
