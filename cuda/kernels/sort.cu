// values, indices = the first k elements of a stable sort along one dimension; NaN is the largest.
//
// Each element becomes an unsigned key whose order is the wanted one (signs flipped, -0 equal to 0,
// NaN above infinity, all bits inverted for descending order), below its line's number; one stable
// radix sort (CUB) of all lines' (key, position) together, and the first k of each line are taken.
//
// Bytes moved: in twice, 12 bytes per element and digit of 8 bits. Thread-to-data: a thread per
// element before and after. Deterministic: stable.
#include <cub/device/device_radix_sort.cuh>

#include "devices.h"
#include "element_map.cuh"
#include "line_nest.h"

namespace tempra::cuda {

namespace {

using Key = unsigned long long;

__device__ __forceinline__ unsigned key_of(float x) {
    if (x != x) return 0xFFFF0000U;
    const unsigned raw = x == 0.0F ? 0U : __float_as_uint(x);
    return raw ^ ((raw >> 31) != 0 ? 0xFFFFFFFFU : 0x80000000U);
}
__device__ __forceinline__ unsigned key_of(bfloat16 x) { return key_of(to_arithmetic(x)); }
__device__ __forceinline__ unsigned key_of(std::int32_t x) {
    return static_cast<unsigned>(x) ^ 0x80000000U;
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    make_keys(const __grid_constant__ LineNest<3> nest, const T* in, std::int64_t elements,
              bool descending, Key* keys, unsigned* positions) {
    const std::int64_t at = thread_number();
    if (at >= elements) return;
    const std::int64_t line = at / nest.length, i = at - line * nest.length;
    std::int64_t offset[3];
    nest.starts.offsets(line, offset);
    const unsigned key = key_of(in[offset[0] + i * nest.steps[0]]);
    keys[at] = static_cast<Key>(line) << 32 | (descending ? ~key : key);
    positions[at] = static_cast<unsigned>(i);
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    take_first(const __grid_constant__ LineNest<3> nest, const T* in, const unsigned* positions,
               std::int64_t lines, std::int64_t wanted, T* values, std::int64_t* indices) {
    const std::int64_t at = thread_number();
    if (at >= lines * wanted) return;
    const std::int64_t line = at / wanted, i = at - line * wanted;
    std::int64_t offset[3];
    nest.starts.offsets(line, offset);
    const std::int64_t position = positions[line * nest.length + i];
    values[offset[1] + i * nest.steps[1]] = in[offset[0] + position * nest.steps[0]];
    indices[offset[2] + i * nest.steps[2]] = position;
}

int bits_for(std::int64_t lines) {
    int bits = 0;
    while (bits < 31 && (lines - 1) >> bits != 0) ++bits;
    return bits;
}

struct SortBuffers {
    Key *keys, *sorted_keys;
    unsigned *positions, *sorted_positions;
    void* work;
};

cudaError_t sort_pairs(const SortBuffers& b, std::size_t& work_bytes, std::int64_t elements,
                       std::int64_t lines, void* stream) {
    return cub::DeviceRadixSort::SortPairs(b.work, work_bytes, b.keys, b.sorted_keys, b.positions,
                                           b.sorted_positions, static_cast<int>(elements), 0,
                                           32 + bits_for(lines), static_cast<cudaStream_t>(stream));
}

template <class T>
KernelStatus sort_typed(const KernelContext& context, const LineNest<3>& nest, const TensorView& in,
                        bool descending, std::int64_t wanted, const TensorView& values,
                        const TensorView& indices) {
    const std::int64_t lines = nest.lines(), elements = lines * nest.length;
    SortBuffers buffers{};
    std::size_t work_bytes = 0;
    cudaError_t error = sort_pairs(buffers, work_bytes, elements, lines, context.stream);
    if (error != cudaSuccess) return fail_with_cuda_error("sort", error);
    const std::int64_t array = divide_up(elements, 64) * 64;  // keeps each on 256 bytes
    const Scratch scratch(array * 24 + static_cast<std::int64_t>(work_bytes), context.stream);
    if (!scratch.ok()) return kKernelOutOfMemory;
    auto* const keys = scratch.as<Key>();
    auto* const positions = reinterpret_cast<unsigned*>(keys + 2 * array);
    buffers = {keys, keys + array, positions, positions + array, positions + 2 * array};
    const auto stream = static_cast<cudaStream_t>(context.stream);
    make_keys<T>
        <<<static_cast<unsigned>(grid_for(elements, kElementwiseThreads)), kElementwiseThreads, 0,
           stream>>>(nest, in.as<const T>(), elements, descending, buffers.keys, buffers.positions);
    const KernelStatus status = finish_launch("sort: keys", context.stream);
    if (status != kKernelOk) return status;
    error = sort_pairs(buffers, work_bytes, elements, lines, context.stream);
    if (error != cudaSuccess) return fail_with_cuda_error("sort", error);
    take_first<T><<<static_cast<unsigned>(grid_for(lines * wanted, kElementwiseThreads)),
                    kElementwiseThreads, 0, stream>>>(nest, in.as<const T>(),
                                                      buffers.sorted_positions, lines, wanted,
                                                      values.as<T>(), indices.as<std::int64_t>());
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
        case DType::i32:
            return sort_typed<std::int32_t>(context, nest, in, down, wanted, values, indices);
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_sort(KernelTable& table) { table.sort = sort; }

}  // namespace tempra::cuda
