// out = in between any dtypes and strides, and out += in between floating-point ones.
//
// Bytes moved: in once, out once (out read too for +=). Thread-to-data: one thread per pack of up
// to 16 bytes where rows are contiguous and aligned, else one per element (element_nest.h). Equal
// dtypes move bits; f32 beside bf16 or f16 converts in packs; other pairs go element by element
// through a kernel that chooses its types at run time. Deterministic.
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

struct Same {
    template <class A>
    __device__ __forceinline__ A operator()(A x) const {
        return x;
    }
};
struct Sum {
    __device__ __forceinline__ float operator()(float x, float y) const { return x + y; }
};

// Any number: floats in `real`, integers and truth values in `integer` (u64 does not occur).
struct Number {
    double real;
    std::int64_t integer;
    bool is_real;
};

__device__ __forceinline__ Number number_of(double x) { return {x, 0, true}; }
__device__ __forceinline__ Number number_of_integer(std::int64_t x) { return {0, x, false}; }

__device__ Number load_number(const void* data, std::int64_t offset, DType dtype) {
    switch (dtype) {
        case DType::f32: return number_of(static_cast<const float*>(data)[offset]);
        case DType::bf16:
            return number_of(to_arithmetic(static_cast<const bfloat16*>(data)[offset]));
        case DType::f16: return number_of(to_arithmetic(static_cast<const float16*>(data)[offset]));
        case DType::f64: return number_of(static_cast<const double*>(data)[offset]);
        case DType::i64: return number_of_integer(static_cast<const std::int64_t*>(data)[offset]);
        case DType::i32: return number_of_integer(static_cast<const std::int32_t*>(data)[offset]);
        case DType::u32: return number_of_integer(static_cast<const std::uint32_t*>(data)[offset]);
        case DType::u16: return number_of_integer(static_cast<const std::uint16_t*>(data)[offset]);
        default: return number_of_integer(static_cast<const std::uint8_t*>(data)[offset]);
    }
}

template <class T>
__device__ __forceinline__ T cast(const Number& x) {
    return x.is_real ? static_cast<T>(x.real) : static_cast<T>(x.integer);
}
template <class T>
__device__ __forceinline__ T cast_integer(const Number& x) {
    return static_cast<T>(x.is_real ? static_cast<std::int64_t>(x.real) : x.integer);
}

__device__ void store_number(const Number& x, void* data, std::int64_t offset, DType dtype) {
    switch (dtype) {
        case DType::f32: static_cast<float*>(data)[offset] = cast<float>(x); break;
        case DType::bf16:
            static_cast<bfloat16*>(data)[offset] = from_arithmetic<bfloat16>(cast<float>(x));
            break;
        case DType::f16:
            static_cast<float16*>(data)[offset] = from_arithmetic<float16>(cast<float>(x));
            break;
        case DType::f64: static_cast<double*>(data)[offset] = cast<double>(x); break;
        case DType::i64:
            static_cast<std::int64_t*>(data)[offset] = cast_integer<std::int64_t>(x);
            break;
        case DType::i32:
            static_cast<std::int32_t*>(data)[offset] = cast_integer<std::int32_t>(x);
            break;
        case DType::u32:
            static_cast<std::uint32_t*>(data)[offset] = cast_integer<std::uint32_t>(x);
            break;
        case DType::u16:
            static_cast<std::uint16_t*>(data)[offset] = cast_integer<std::uint16_t>(x);
            break;
        case DType::u8:
            static_cast<std::uint8_t*>(data)[offset] = cast_integer<std::uint8_t>(x);
            break;
        default:
            static_cast<std::uint8_t*>(data)[offset] = x.is_real ? x.real != 0.0 : x.integer != 0;
    }
}

struct ElementByElement {
    ElementNest<2> nest;
    void* out;
    const void* in;
    DType out_dtype, in_dtype;
    bool add;
};

__global__ void __launch_bounds__(kElementwiseThreads)
    convert_elements(const __grid_constant__ ElementByElement work) {
    const std::int64_t index = thread_number();
    if (index >= work.nest.elements) return;
    std::int64_t offset[2];
    work.nest.offsets(index, offset);
    Number x = load_number(work.in, offset[1], work.in_dtype);
    if (work.add) x.real += load_number(work.out, offset[0], work.out_dtype).real;
    store_number(x, work.out, offset[0], work.out_dtype);
}

KernelStatus launch_any(const char* name, const KernelContext& context, const TensorView& in,
                        const TensorView& out, bool add) {
    const TensorView* const views[2] = {&out, &in};
    const ElementNest<2> nest = element_nest(views, 1);
    const std::int64_t blocks = grid_for(nest.elements, kElementwiseThreads);
    const KernelStatus status = check_launch(name, context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    convert_elements<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                       static_cast<cudaStream_t>(context.stream)>>>(
        ElementByElement{nest, out.data, in.data, out.dtype, in.dtype, add});
    return finish_launch(name, context.stream);
}

template <class Bits>
KernelStatus launch_move(const KernelContext& context, const TensorView& in,
                         const TensorView& out) {
    return launch_map<Bits, Bits>("copy", context, out, in, Same{}, Same{});
}

KernelStatus copy(const KernelContext& context, const TensorView& in, const TensorView& out) {
    if (in.dtype == out.dtype) {
        switch (size_of(in.dtype)) {
            case 1: return launch_move<std::uint8_t>(context, in, out);
            case 2: return launch_move<std::uint16_t>(context, in, out);
            case 4: return launch_move<std::uint32_t>(context, in, out);
            default: return launch_move<std::uint64_t>(context, in, out);
        }
    }
    if (in.dtype == DType::f32 && out.dtype == DType::bf16) {
        return launch_map<bfloat16, float>("copy", context, out, in, Same{}, Same{});
    }
    if (in.dtype == DType::bf16 && out.dtype == DType::f32) {
        return launch_map<float, bfloat16>("copy", context, out, in, Same{}, Same{});
    }
    if (in.dtype == DType::f32 && out.dtype == DType::f16) {
        return launch_map<float16, float>("copy", context, out, in, Same{}, Same{});
    }
    if (in.dtype == DType::f16 && out.dtype == DType::f32) {
        return launch_map<float, float16>("copy", context, out, in, Same{}, Same{});
    }
    return launch_any("copy", context, in, out, false);
}

template <class Out, class In>
KernelStatus launch_sum(const KernelContext& context, const TensorView& in, const TensorView& out) {
    return launch_map<Out, Out, In>("accumulate", context, out, out, in, Sum{}, Sum{});
}

KernelStatus accumulate(const KernelContext& context, const TensorView& in, const TensorView& out) {
    if (!is_floating(in.dtype) || !is_floating(out.dtype)) return kKernelUnsupportedDtype;
    const bool from_float = in.dtype == DType::f32, to_float = out.dtype == DType::f32;
    const bool from_bf16 = in.dtype == DType::bf16, to_bf16 = out.dtype == DType::bf16;
    if (from_float && to_float) return launch_sum<float, float>(context, in, out);
    if (from_bf16 && to_float) return launch_sum<float, bfloat16>(context, in, out);
    if (from_bf16 && to_bf16) return launch_sum<bfloat16, bfloat16>(context, in, out);
    if (from_float && to_bf16) return launch_sum<bfloat16, float>(context, in, out);
    const bool from_f16 = in.dtype == DType::f16, to_f16 = out.dtype == DType::f16;
    if (from_f16 && to_float) return launch_sum<float, float16>(context, in, out);
    if (from_f16 && to_f16) return launch_sum<float16, float16>(context, in, out);
    if (from_float && to_f16) return launch_sum<float16, float>(context, in, out);
    return launch_any("accumulate", context, in, out, true);
}

}  // namespace

void register_copy(KernelTable& table) {
    table.copy = copy;
    table.accumulate = accumulate;
}

}  // namespace tempra::cuda
