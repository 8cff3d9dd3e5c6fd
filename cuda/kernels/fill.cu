// out = value, and out[i] = start + i * step.
//
// Bytes moved: out once. Thread-to-data: one thread per pack of 16 bytes where rows are contiguous
// and aligned, else one per element (element_nest.h). The value is turned into the element's bits
// on the host, so that a fill knows element sizes only. Deterministic.
#include "element_bits.h"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

template <int kPack, class Bits>
__global__ void __launch_bounds__(kElementwiseThreads)
    fill_elements(const __grid_constant__ ElementNest<1> nest, Bits* out, Bits value) {
    const std::int64_t pack = thread_number();
    if (pack >= nest.packs) return;
    std::int64_t offset[1];
    nest.offsets(pack, offset);
    const int count = kPack == 1 ? 1 : nest.elements_in(pack);
    Bits values[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) values[i] = value;
    store_operand<Bits, kPack>(values, count, out + offset[0]);
}

template <class Bits>
KernelStatus launch_fill(const KernelContext& context, const TensorView& out, std::uint64_t bits) {
    const TensorView* const views[1] = {&out};
    const ElementNest<1> nest = element_nest(views);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("fill", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const auto launch = [&](auto kernel) {
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(nest, out.as<Bits>(),
                                                              static_cast<Bits>(bits));
    };
    if (nest.pack == 1) {
        launch(fill_elements<1, Bits>);
    } else {
        launch(fill_elements<kPackOf<Bits>, Bits>);
    }
    return finish_launch("fill", context.stream);
}

KernelStatus fill(const KernelContext& context, const TensorView& out, double value) {
    const std::uint64_t bits = element_bits(out.dtype, value);
    switch (size_of(out.dtype)) {
        case 1: return launch_fill<std::uint8_t>(context, out, bits);
        case 2: return launch_fill<std::uint16_t>(context, out, bits);
        case 4: return launch_fill<std::uint32_t>(context, out, bits);
        default: return launch_fill<std::uint64_t>(context, out, bits);
    }
}

template <class T>
__device__ __forceinline__ T from_double(double value) {
    return static_cast<T>(value);
}
template <>
__device__ __forceinline__ bfloat16 from_double<bfloat16>(double value) {
    return from_arithmetic<bfloat16>(static_cast<float>(value));
}
template <>
__device__ __forceinline__ float16 from_double<float16>(double value) {
    return from_arithmetic<float16>(static_cast<float>(value));
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    count_up(T* out, std::int64_t stride, std::int64_t elements, double start, double step) {
    const std::int64_t i = thread_number();
    if (i < elements) out[i * stride] = from_double<T>(start + static_cast<double>(i) * step);
}

template <class T>
KernelStatus launch_arange(const KernelContext& context, const TensorView& out, double start,
                           double step) {
    const std::int64_t elements = out.numel();
    const std::int64_t blocks = grid_for(elements, kElementwiseThreads);
    const KernelStatus status = check_launch("arange", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    count_up<T><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                  static_cast<cudaStream_t>(context.stream)>>>(out.as<T>(), out.stride(0), elements,
                                                               start, step);
    return finish_launch("arange", context.stream);
}

KernelStatus arange(const KernelContext& context, const TensorView& out, double start,
                    double step) {
    if (out.dimensions != 1) return fail(kKernelFailed, "arange: one dimension is needed");
    switch (out.dtype) {
        case DType::f32: return launch_arange<float>(context, out, start, step);
        case DType::bf16: return launch_arange<bfloat16>(context, out, start, step);
        case DType::f16: return launch_arange<float16>(context, out, start, step);
        case DType::i64: return launch_arange<std::int64_t>(context, out, start, step);
        case DType::i32: return launch_arange<std::int32_t>(context, out, start, step);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_fill(KernelTable& table) {
    table.fill = fill;
    table.arange = arange;
}

}  // namespace tempra::cuda
