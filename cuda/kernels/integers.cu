// Arithmetic and reductions of integers: indices, counts and masks, never large.
//   out = a op b (sums, differences, products and powers wrap; quotients are truncated)
//   out = op over the reduced dimensions, as 64-bit integers, cut to the output's dtype
//
// Bytes moved: each operand once. Thread-to-data: a thread per element; a block of 256 threads per
// output of a reduction, every 256th element a thread. Deterministic: integer arithmetic has no
// order. A division by zero, or a negative power of anything but 1 and -1, gives 0 and leaves a
// fault for `stream_synchronize`.
#include "block_reduce.cuh"
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "integer_parts.h"
#include "reduce_nest.h"

namespace tempra::cuda {

namespace {

using Wide = long long;
using Unsigned = unsigned long long;

__device__ __forceinline__ Wide raised(Wide base, Wide exponent) {
    Unsigned result = 1, factor = static_cast<Unsigned>(base);
    for (Unsigned rest = static_cast<Unsigned>(exponent < 0 ? exponent & 1 : exponent); rest != 0;
         rest >>= 1, factor *= factor) {
        if ((rest & 1) != 0) result *= factor;
    }
    return static_cast<Wide>(result);
}

// In 64 bits, of which i32 takes the lower half: the same as wrapping in 32.
struct IntegerArithmetic {
    BinaryOp op;
    std::int32_t* fault;

    __device__ __forceinline__ Wide operator()(Wide a, Wide b) const {
        const auto x = static_cast<Unsigned>(a), y = static_cast<Unsigned>(b);
        switch (op) {
            case BinaryOp::add: return static_cast<Wide>(x + y);
            case BinaryOp::subtract: return static_cast<Wide>(x - y);
            case BinaryOp::multiply: return static_cast<Wide>(x * y);
            case BinaryOp::maximum: return a > b ? a : b;
            case BinaryOp::minimum: return a < b ? a : b;
            case BinaryOp::divide:
                if (b == 0) break;
                return b == -1 ? static_cast<Wide>(0 - x) : a / b;
            default:
                if (b < 0 && a != 1 && a != -1) break;
                return raised(a, b);
        }
        *fault = kNoIntegerResult;
        return 0;
    }
};

// Element by element: what stands in for the rest of a partial pack must not be divided by.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    map_integers(const __grid_constant__ ElementNest<3> nest, T* out, const T* a, const T* b,
                 const IntegerArithmetic arithmetic) {
    const std::int64_t element = thread_number();
    if (element >= nest.packs) return;
    std::int64_t offset[3];
    nest.offsets(element, offset);
    out[offset[0]] = static_cast<T>(arithmetic(a[offset[1]], b[offset[2]]));
}

template <class T>
KernelStatus launch_arithmetic(const KernelContext& context, const IntegerArithmetic& arithmetic,
                               const TensorView& a, const TensorView& b, const TensorView& out) {
    const TensorView* const views[3] = {&out, &a, &b};
    const ElementNest<3> nest = element_nest(views, 1);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("binary", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    map_integers<T><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                      static_cast<cudaStream_t>(context.stream)>>>(
        nest, out.as<T>(), a.as<const T>(), b.as<const T>(), arithmetic);
    return finish_launch("binary", context.stream);
}

struct IntegerCombine {
    ReduceOp op;

    [[nodiscard]] __device__ __forceinline__ Wide identity() const {
        switch (op) {
            case ReduceOp::maximum: return INT64_MIN;
            case ReduceOp::minimum: return INT64_MAX;
            case ReduceOp::product: return 1;
            default: return 0;
        }
    }
    __device__ __forceinline__ Wide operator()(Wide a, Wide b) const {
        switch (op) {
            case ReduceOp::maximum: return a > b ? a : b;
            case ReduceOp::minimum: return a < b ? a : b;
            case ReduceOp::product:
                return static_cast<Wide>(static_cast<Unsigned>(a) * static_cast<Unsigned>(b));
            default: return static_cast<Wide>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
        }
    }
};

template <class In, class Out>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_outputs(const __grid_constant__ ReduceNest nest, const In* in, Out* out,
                   const IntegerCombine combine) {
    __shared__ Wide shared[32];
    const std::int64_t output = blockIdx.x;
    const In* const from = in + nest.kept.in_offset(output);
    Wide total = combine.identity();
    for (std::int64_t i = threadIdx.x; i < nest.reduced.product; i += kReduceThreads) {
        total = combine(total, static_cast<Wide>(from[nest.reduced.in_offset(i)]));
    }
    total = block_reduce(total, combine, shared);
    if (threadIdx.x == 0) out[nest.kept.out_offset(output)] = static_cast<Out>(total);
}

template <class In, class Out>
KernelStatus launch_reduction(const KernelContext& context, ReduceOp op, const TensorView& in,
                              const TensorView& out) {
    const ReduceNest nest = reduce_nest(in, out);
    const std::int64_t blocks = grid_for(nest.kept.product, 1);
    const KernelStatus status = check_launch("reduce", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const bool extreme = op == ReduceOp::maximum || op == ReduceOp::minimum;
    if (nest.reduced.product == 0 && extreme) {
        return fail(kKernelFailed, "reduce: the extreme of nothing does not exist");
    }
    reduce_outputs<In, Out><<<static_cast<unsigned>(blocks), kReduceThreads, 0,
                              static_cast<cudaStream_t>(context.stream)>>>(
        nest, in.as<const In>(), out.as<Out>(), IntegerCombine{op});
    return finish_launch("reduce", context.stream);
}

template <class In>
KernelStatus reduce_to(const KernelContext& context, ReduceOp op, const TensorView& in,
                       const TensorView& out) {
    if (out.dtype == DType::i64) return launch_reduction<In, std::int64_t>(context, op, in, out);
    if (out.dtype == in.dtype) return launch_reduction<In, In>(context, op, in, out);
    return kKernelUnsupportedDtype;
}

}  // namespace

KernelStatus binary_integers(const KernelContext& context, BinaryOp op, const TensorView& a,
                             const TensorView& b, const TensorView& out) {
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    const IntegerArithmetic arithmetic{op, device->fault};
    switch (a.dtype) {
        case DType::i64: return launch_arithmetic<std::int64_t>(context, arithmetic, a, b, out);
        case DType::i32: return launch_arithmetic<std::int32_t>(context, arithmetic, a, b, out);
        default: return kKernelUnsupportedDtype;
    }
}

KernelStatus reduce_integers(const KernelContext& context, ReduceOp op, const TensorView& in,
                             const TensorView& out) {
    if (op == ReduceOp::mean) return kKernelUnsupportedDtype;
    switch (in.dtype) {
        case DType::i64: return reduce_to<std::int64_t>(context, op, in, out);
        case DType::i32: return reduce_to<std::int32_t>(context, op, in, out);
        case DType::u8:
        case DType::boolean: return reduce_to<std::uint8_t>(context, op, in, out);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace tempra::cuda
