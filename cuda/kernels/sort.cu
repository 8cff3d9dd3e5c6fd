// values, indices = the first k elements of a stable sort along one dimension; NaN is the largest.
//
// Each element becomes an unsigned key whose order is the wanted one (signs flipped, -0 equal to 0,
// NaN above infinity, all bits inverted for descending order). Keys of 32 bits are sorted below
// their line's number, all lines together; keys of 64 bits are sorted first, and then, stably, by
// line. The first k of each line are taken.
//
// Bytes moved: in twice, 12 bytes per element and digit of 8 bits. Thread-to-data: a thread per
// element before and after. Deterministic: stable.
#include "element_map.cuh"
#include "line_nest.h"
#include "radix_sort.h"

namespace tempra::cuda {

namespace {

__device__ __forceinline__ std::uint32_t key_of(float x) {
    if (x != x) return 0xFFFF0000U;
    const std::uint32_t raw = x == 0.0F ? 0U : __float_as_uint(x);
    return raw ^ ((raw >> 31) != 0 ? 0xFFFFFFFFU : 0x80000000U);
}
__device__ __forceinline__ std::uint32_t key_of(bfloat16 x) { return key_of(to_arithmetic(x)); }
__device__ __forceinline__ std::uint32_t key_of(float16 x) { return key_of(to_arithmetic(x)); }
__device__ __forceinline__ std::uint32_t key_of(std::int32_t x) {
    return static_cast<std::uint32_t>(x) ^ 0x80000000U;
}
__device__ __forceinline__ std::uint64_t key_of(std::int64_t x) {
    return static_cast<std::uint64_t>(x) ^ std::uint64_t{1} << 63;
}

// A position counts through all lines.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    make_keys(const __grid_constant__ LineNest<3> nest, const T* in, std::int64_t elements,
              bool descending, std::uint64_t* keys, std::uint32_t* positions) {
    const std::int64_t at = thread_number();
    if (at >= elements) return;
    const std::int64_t line = at / nest.length, i = at - line * nest.length;
    std::int64_t offset[3];
    nest.starts.offsets(line, offset);
    const auto key = key_of(in[offset[0] + i * nest.steps[0]]);
    const auto ordered = static_cast<decltype(key)>(descending ? ~key : key);
    keys[at] = sizeof(key) == 8 ? ordered : static_cast<std::uint64_t>(line) << 32 | ordered;
    positions[at] = static_cast<std::uint32_t>(at);
}

// After a sort by value: the lines, as keys of the next.
__global__ void __launch_bounds__(kElementwiseThreads)
    make_line_keys(const std::uint32_t* sorted_positions, std::int64_t elements,
                   std::int64_t length, std::uint64_t* keys, std::uint32_t* positions) {
    const std::int64_t at = thread_number();
    if (at >= elements) return;
    positions[at] = sorted_positions[at];
    keys[at] = static_cast<std::uint64_t>(sorted_positions[at] / length);
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    take_first(const __grid_constant__ LineNest<3> nest, const T* in,
               const std::uint32_t* positions, std::int64_t lines, std::int64_t wanted, T* values,
               std::int64_t* indices) {
    const std::int64_t at = thread_number();
    if (at >= lines * wanted) return;
    const std::int64_t line = at / wanted, i = at - line * wanted;
    std::int64_t offset[3];
    nest.starts.offsets(line, offset);
    const std::int64_t position = positions[line * nest.length + i] - line * nest.length;
    values[offset[1] + i * nest.steps[1]] = in[offset[0] + position * nest.steps[0]];
    indices[offset[2] + i * nest.steps[2]] = position;
}

unsigned element_blocks(std::int64_t elements) {
    return static_cast<unsigned>(grid_for(elements, kElementwiseThreads));
}

KernelStatus sort_by_line(const KernelContext& context, RadixSort<std::uint64_t>& order,
                          std::int64_t lines, std::int64_t length) {
    const std::int64_t elements = lines * length;
    make_line_keys<<<element_blocks(elements), kElementwiseThreads, 0,
                     static_cast<cudaStream_t>(context.stream)>>>(
        order.sorted_positions, elements, length, order.keys, order.positions);
    const KernelStatus status = finish_launch("sort: lines", context.stream);
    return status == kKernelOk ? order.sort(bits_for(lines - 1)) : status;
}

template <class T>
KernelStatus sort_typed(const KernelContext& context, const LineNest<3>& nest, const TensorView& in,
                        bool descending, std::int64_t wanted, const TensorView& values,
                        const TensorView& indices) {
    const std::int64_t lines = nest.lines(), elements = lines * nest.length;
    const bool is_wide = sizeof(T) == 8;
    const int bits = is_wide ? 64 : lines == 1 ? 32 : 32 + bits_for(lines - 1);
    RadixSort<std::uint64_t> order("sort", elements, bits, context.stream);
    if (order.status() != kKernelOk) return order.status();
    const auto stream = static_cast<cudaStream_t>(context.stream);
    make_keys<T><<<element_blocks(elements), kElementwiseThreads, 0, stream>>>(
        nest, in.as<const T>(), elements, descending, order.keys, order.positions);
    KernelStatus status = finish_launch("sort: keys", context.stream);
    if (status == kKernelOk) status = order.sort(bits);
    if (status == kKernelOk && is_wide && lines > 1) {
        status = sort_by_line(context, order, lines, nest.length);
    }
    if (status != kKernelOk) return status;
    take_first<T><<<element_blocks(lines * wanted), kElementwiseThreads, 0, stream>>>(
        nest, in.as<const T>(), order.sorted_positions, lines, wanted, values.as<T>(),
        indices.as<std::int64_t>());
    return finish_launch("sort", context.stream);
}

KernelStatus sort(const KernelContext& context, const TensorView& in, std::int32_t dimension,
                  std::int32_t descending, const TensorView& values, const TensorView& indices) {
    if (values.dtype != in.dtype || indices.dtype != DType::i64) return kKernelUnsupportedDtype;
    const TensorView* const views[3] = {&in, &values, &indices};
    const LineNest<3> nest = line_nest(views, dimension);
    const std::int64_t wanted = in.dimensions == 0 ? 1 : values.sizes[dimension];
    KernelStatus status = check_launch("sort", context, 1);
    if (status != kKernelOk || nest.lines() == 0 || nest.length == 0 || wanted == 0) return status;
    if (nest.lines() * nest.length > INT32_MAX) {
        return fail(kKernelFailed, "sort: more than 2^31 - 1 elements");
    }
    const bool down = descending != 0;
    switch (in.dtype) {
        case DType::f32: return sort_typed<float>(context, nest, in, down, wanted, values, indices);
        case DType::bf16:
            return sort_typed<bfloat16>(context, nest, in, down, wanted, values, indices);
        case DType::f16:
            return sort_typed<float16>(context, nest, in, down, wanted, values, indices);
        case DType::i32:
            return sort_typed<std::int32_t>(context, nest, in, down, wanted, values, indices);
        case DType::i64:
            return sort_typed<std::int64_t>(context, nest, in, down, wanted, values, indices);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_sort(KernelTable& table) { table.sort = sort; }

}  // namespace tempra::cuda
