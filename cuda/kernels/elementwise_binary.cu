// out = f(a, b), where(condition, a, b) and clamp(in, low, high).
//
// Bytes moved: each operand once; a broadcast operand (stride 0) is read from cache.
// Thread-to-data: one thread per pack of up to 16 bytes where rows are contiguous and aligned, else
// one per element (element_nest.h). fp32 arithmetic, rounded once at the store. Deterministic:
// every element is computed alone.
#include "activation.cuh"
#include "element_map.cuh"
#include "integer_parts.h"

namespace tempra::cuda {

namespace {

using Truth = std::uint8_t;

__device__ __forceinline__ float apply(BinaryOp op, float a, float b) {
    switch (op) {
        case BinaryOp::add: return a + b;
        case BinaryOp::subtract: return a - b;
        case BinaryOp::multiply: return a * b;
        case BinaryOp::divide: return a / b;
        case BinaryOp::power: return powf(a, b);
        // NaN wins, from either side.
        case BinaryOp::maximum: return a > b || a != a ? a : b;
        default: return a < b || a != a ? a : b;
    }
}

template <class A>
__device__ __forceinline__ Truth compare(BinaryOp op, A a, A b) {
    switch (op) {
        case BinaryOp::equal: return a == b;
        case BinaryOp::not_equal: return a != b;
        case BinaryOp::less: return a < b;
        case BinaryOp::less_equal: return a <= b;
        case BinaryOp::greater: return a > b;
        default: return a >= b;
    }
}

__device__ __forceinline__ Truth connect(BinaryOp op, Truth a, Truth b) {
    const bool x = a != 0, y = b != 0;
    switch (op) {
        case BinaryOp::logical_and: return x && y;
        case BinaryOp::logical_or: return x || y;
        default: return x != y;
    }
}

template <BinaryOp kOp>
struct FixedArithmetic {
    __device__ __forceinline__ float operator()(float a, float b) const { return apply(kOp, a, b); }
};
struct ChosenArithmetic {
    BinaryOp op;
    __device__ __forceinline__ float operator()(float a, float b) const { return apply(op, a, b); }
};
struct Comparison {
    BinaryOp op;
    template <class A>
    __device__ __forceinline__ Truth operator()(A a, A b) const {
        return compare(op, a, b);
    }
};
struct Connection {
    BinaryOp op;
    __device__ __forceinline__ Truth operator()(Truth a, Truth b) const {
        return connect(op, a, b);
    }
};
struct Clamp {
    float low, high;
    __device__ __forceinline__ float operator()(float x) const {
        return clamp_keeping_nan(x, low, high);
    }
};

template <class T, int kFirst>
KernelStatus launch_arithmetic(BinaryOp op, const KernelContext& context, const TensorView& a,
                               const TensorView& b, const TensorView& out) {
    if constexpr (kFirst < static_cast<int>(BinaryOp::equal)) {
        constexpr auto kOp = static_cast<BinaryOp>(kFirst);
        if (op == kOp) {
            return launch_map<T, T, T>("binary", context, out, a, b, FixedArithmetic<kOp>{},
                                       ChosenArithmetic{kOp});
        }
        return launch_arithmetic<T, kFirst + 1>(op, context, a, b, out);
    } else {
        return fail(kKernelFailed, "binary: unknown operation");
    }
}

template <class T>
KernelStatus launch_comparison(BinaryOp op, const KernelContext& context, const TensorView& a,
                               const TensorView& b, const TensorView& out) {
    return launch_map<Truth, T, T>("binary", context, out, a, b, Comparison{op}, Comparison{op});
}

KernelStatus compare_views(BinaryOp op, const KernelContext& context, const TensorView& a,
                           const TensorView& b, const TensorView& out) {
    switch (a.dtype) {
        case DType::f32: return launch_comparison<float>(op, context, a, b, out);
        case DType::bf16: return launch_comparison<bfloat16>(op, context, a, b, out);
        case DType::f16: return launch_comparison<float16>(op, context, a, b, out);
        case DType::i64: return launch_comparison<std::int64_t>(op, context, a, b, out);
        case DType::i32: return launch_comparison<std::int32_t>(op, context, a, b, out);
        default: return kKernelUnsupportedDtype;
    }
}

KernelStatus binary(const KernelContext& context, BinaryOp op, const TensorView& a,
                    const TensorView& b, const TensorView& out) {
    if (a.dtype != b.dtype) return kKernelUnsupportedDtype;
    const bool is_comparison = op >= BinaryOp::equal && op <= BinaryOp::greater_equal;
    const bool is_logical = op >= BinaryOp::logical_and && op <= BinaryOp::logical_xor;
    if (out.dtype != (is_comparison || is_logical ? DType::boolean : a.dtype) ||
        (is_logical && a.dtype != DType::boolean)) {
        return kKernelUnsupportedDtype;
    }
    if (is_comparison) return compare_views(op, context, a, b, out);
    if (is_logical) {
        return launch_map<Truth, Truth, Truth>("binary", context, out, a, b, Connection{op},
                                               Connection{op});
    }
    switch (a.dtype) {
        case DType::f32: return launch_arithmetic<float, 0>(op, context, a, b, out);
        case DType::bf16: return launch_arithmetic<bfloat16, 0>(op, context, a, b, out);
        case DType::f16: return launch_arithmetic<float16, 0>(op, context, a, b, out);
        default: return binary_integers(context, op, a, b, out);
    }
}

// Element types matter by their size alone.
template <int kPack, class Bits>
__global__ void __launch_bounds__(kElementwiseThreads)
    select_elements(const __grid_constant__ ElementNest<4> nest, Bits* out, const Truth* condition,
                    const Bits* a, const Bits* b) {
    const std::int64_t pack = thread_number();
    if (pack >= nest.packs) return;
    std::int64_t offset[4];
    nest.offsets(pack, offset);
    const int count = kPack == 1 ? 1 : nest.elements_in(pack);
    Truth chosen[kPack];
    Bits x[kPack], y[kPack];
    load_operand<Truth, kPack>(condition, offset[1], nest.broadcast_inside[1], count, chosen);
    load_operand<Bits, kPack>(a, offset[2], nest.broadcast_inside[2], count, x);
    load_operand<Bits, kPack>(b, offset[3], nest.broadcast_inside[3], count, y);
#pragma unroll
    for (int i = 0; i < kPack; ++i) x[i] = chosen[i] != 0 ? x[i] : y[i];
    store_operand<Bits, kPack>(x, count, out + offset[0]);
}

template <class Bits>
KernelStatus launch_where(const KernelContext& context, const TensorView& condition,
                          const TensorView& a, const TensorView& b, const TensorView& out) {
    const TensorView* const views[4] = {&out, &condition, &a, &b};
    const ElementNest<4> nest = element_nest(views);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("where", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const auto launch = [&](auto kernel) {
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(
            nest, out.as<Bits>(), condition.as<const Truth>(), a.as<const Bits>(),
            b.as<const Bits>());
    };
    if (nest.pack == 1) {
        launch(select_elements<1, Bits>);
    } else {
        launch(select_elements<kPackOf<Bits>, Bits>);
    }
    return finish_launch("where", context.stream);
}

KernelStatus where(const KernelContext& context, const TensorView& condition, const TensorView& a,
                   const TensorView& b, const TensorView& out) {
    if (condition.dtype != DType::boolean || a.dtype != out.dtype || b.dtype != out.dtype) {
        return kKernelUnsupportedDtype;
    }
    switch (size_of(out.dtype)) {
        case 1: return launch_where<std::uint8_t>(context, condition, a, b, out);
        case 2: return launch_where<std::uint16_t>(context, condition, a, b, out);
        case 4: return launch_where<std::uint32_t>(context, condition, a, b, out);
        default: return launch_where<std::uint64_t>(context, condition, a, b, out);
    }
}

KernelStatus clamp(const KernelContext& context, const TensorView& in, double low, double high,
                   const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    const Clamp function{static_cast<float>(low), static_cast<float>(high)};
    switch (in.dtype) {
        case DType::f32:
            return launch_map<float, float>("clamp", context, out, in, function, function);
        case DType::bf16:
            return launch_map<bfloat16, bfloat16>("clamp", context, out, in, function, function);
        case DType::f16:
            return launch_map<float16, float16>("clamp", context, out, in, function, function);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_elementwise_binary(KernelTable& table) {
    table.binary = binary;
    table.where = where;
    table.clamp = clamp;
}

}  // namespace tempra::cuda
