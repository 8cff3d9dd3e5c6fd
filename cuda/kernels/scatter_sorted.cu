// scatter of few long lines: out[.., index[.., i, ..], ..] (+)= source[.., i, ..], where a thread
// per line would leave a device idle.
//
// Every element becomes the number of its place in `out` as a key with its position; a stable radix
// sort brings the elements of a place together in order of position. One thread then adds them in
// that order, or writes the last.
//
// Bytes moved: index and elements once, 12 bytes per element and 8 bits of the key for sorting.
// Thread-to-data: a thread per element before the sort and after it, of which those at the end of a
// place's stretch work. All elements at one place are one thread's work, as the order of a sum in
// floating point asks. Deterministic: stable.
#include "device_fault.h"
#include "radix_sort.h"
#include "scatter_parts.cuh"

namespace tempra::cuda {

namespace {

template <class Index>
__global__ void __launch_bounds__(kElementwiseThreads)
    make_places(const __grid_constant__ ScatterCall call, const Index* index, std::uint64_t* keys,
                std::uint32_t* positions) {
    const std::int64_t at = thread_number();
    if (at >= call.nest.packs * call.line.length) return;
    const std::int64_t line = at / call.line.length, i = at - line * call.line.length;
    std::int64_t offset[3];
    call.nest.offsets(line, offset);
    const std::int64_t place = index[offset[1] + i * call.line.index_step];
    const bool exists = place >= 0 && place < call.line.extent;
    if (!exists) *call.fault = kIndexOutOfRange;
    const std::int64_t key = exists ? line * call.line.extent + place  // else behind all places
                                    : call.nest.packs * call.line.extent;
    keys[at] = static_cast<std::uint64_t>(key);
    positions[at] = static_cast<std::uint32_t>(at);
}

// Where the element of this position is read.
template <class Element>
__device__ __forceinline__ Element source_at(const ScatterCall& call, const Element* source,
                                             std::int64_t start, std::uint32_t position) {
    return source[start + position % call.line.length * call.line.source_step];
}

template <class Element, bool kAdd>
__global__ void __launch_bounds__(kElementwiseThreads)
    finish_places(const __grid_constant__ ScatterCall call, const std::uint64_t* keys,
                  const std::uint32_t* positions, const Element* source, Element* out) {
    const std::int64_t at = thread_number(), elements = call.nest.packs * call.line.length;
    if (at >= elements) return;
    const std::uint64_t key = keys[at];
    if (key >= static_cast<std::uint64_t>(call.nest.packs * call.line.extent)) return;
    const bool is_end = at + 1 == elements || keys[at + 1] != key;
    const bool is_begin = at == 0 || keys[at - 1] != key;
    if (kAdd ? !is_begin : !is_end) return;
    const auto line = static_cast<std::int64_t>(key) / call.line.extent;
    std::int64_t offset[3];
    call.nest.offsets(line, offset);
    const std::int64_t place = static_cast<std::int64_t>(key) - line * call.line.extent;
    Element& target = out[offset[0] + place * call.line.out_step];
    if constexpr (kAdd) {
        Element sum = target;
        for (std::int64_t i = at; i < elements && keys[i] == key; ++i) {
            const Element value = source_at(call, source, offset[2], positions[i]);
            sum = from_arithmetic<Element>(to_arithmetic(sum) + to_arithmetic(value));
        }
        target = sum;
    } else {
        target = source_at(call, source, offset[2], positions[at]);
    }
}

template <class Element, bool kAdd>
KernelStatus launch_places(const KernelContext& context, const ScatterCall& call,
                           const RadixSort<std::uint64_t>& order, const TensorView& source,
                           const TensorView& out) {
    const std::int64_t blocks = grid_for(call.nest.packs * call.line.length, kElementwiseThreads);
    finish_places<Element, kAdd><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                                   static_cast<cudaStream_t>(context.stream)>>>(
        call, order.sorted_keys, order.sorted_positions, source.as<const Element>(),
        out.as<Element>());
    return finish_launch("scatter", context.stream);
}

}  // namespace

KernelStatus scatter_sorted(const KernelContext& context, const ScatterCall& call,
                            const TensorView& source, const TensorView& index, bool add,
                            const TensorView& out) {
    const std::int64_t elements = call.nest.packs * call.line.length;
    const int bits = bits_for(call.nest.packs * call.line.extent);
    RadixSort<std::uint64_t> order("scatter", elements, bits, context.stream);
    KernelStatus status = order.status();
    if (status != kKernelOk) return status;
    status = with_index_dtype(index.dtype, [&](auto tag) -> KernelStatus {
        using Index = decltype(tag);
        make_places<Index><<<static_cast<unsigned>(grid_for(elements, kElementwiseThreads)),
                             kElementwiseThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
            call, index.as<const Index>(), order.keys, order.positions);
        return finish_launch("scatter: places", context.stream);
    });
    if (status == kKernelOk) status = order.sort(bits);
    if (status != kKernelOk) return status;
    if (add) {
        return with_element_to_add(out.dtype, [&](auto tag) {
            return launch_places<decltype(tag), true>(context, call, order, source, out);
        });
    }
    return with_element_bytes(size_of(out.dtype), [&](auto tag) {
        return launch_places<decltype(tag), false>(context, call, order, source, out);
    });
}

}  // namespace tempra::cuda
