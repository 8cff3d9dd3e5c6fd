// gather: out[.., i, ..] = in[.., index[.., i, ..], ..]; scatter: out[.., index[.., i, ..], ..]
// (+)= source[.., i, ..].
//
// Bytes moved: index and the elements once each. Thread-to-data: gather a thread per element of
// `out`; scatter a thread per line along `dimension`, which no other line writes into, so that
// equal indices meet in order of position: deterministic without atomics, as on the CPU. Few long
// lines are sorted by index instead (scatter_sorted.cu). Sums in the dtype of `out` (16-bit floats
// round after each term). An index out of range leaves a fault for `stream_synchronize`; gather
// gives zero there, scatter nothing.
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "scatter_parts.cuh"

namespace tempra::cuda {

namespace {

struct Dimension {
    std::int64_t extent, stride;
};

template <class Element, class Index>
__global__ void __launch_bounds__(kElementwiseThreads)
    gather_elements(const __grid_constant__ ElementNest<3> nest, Element* out, const Index* index,
                    const Element* in, const Dimension dimension, std::int32_t* fault) {
    const std::int64_t element = thread_number();
    if (element >= nest.packs) return;
    std::int64_t offset[3];
    nest.offsets(element, offset);
    const std::int64_t at = index[offset[1]];
    Element value{};
    if (at < 0 || at >= dimension.extent) {
        *fault = kIndexOutOfRange;
    } else {
        value = in[offset[2] + at * dimension.stride];
    }
    out[offset[0]] = value;
}

KernelStatus gather(const KernelContext& context, const TensorView& in, std::int32_t dimension,
                    const TensorView& index, const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    // Along `dimension` the input moves by the index alone.
    TensorView base = in;
    Dimension along{1, 0};
    if (in.dimensions > 0) {
        along = {in.sizes[dimension], in.strides[dimension]};
        base.strides[dimension] = 0;
    }
    const TensorView* const views[3] = {&out, &index, &base};
    const ElementNest<3> nest = element_nest(views, 1);
    const std::int64_t blocks = grid_for(nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("gather", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    return with_index_dtype(index.dtype, [&](auto index_tag) {
        return with_element_bytes(size_of(out.dtype), [&](auto element_tag) -> KernelStatus {
            using Index = decltype(index_tag);
            using Element = decltype(element_tag);
            gather_elements<Element, Index><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                                              static_cast<cudaStream_t>(context.stream)>>>(
                nest, out.as<Element>(), index.as<const Index>(), in.as<const Element>(), along,
                device->fault);
            return finish_launch("gather", context.stream);
        });
    });
}

template <class Element, class Index, bool kAdd>
__global__ void __launch_bounds__(kElementwiseThreads)
    scatter_lines(const __grid_constant__ ElementNest<3> nest, Element* out, const Index* index,
                  const Element* source, const ScatterLine line, std::int32_t* fault) {
    const std::int64_t number = thread_number();
    if (number >= nest.packs) return;
    std::int64_t offset[3];
    nest.offsets(number, offset);
    for (std::int64_t i = 0; i < line.length; ++i) {
        const std::int64_t at = index[offset[1] + i * line.index_step];
        if (at < 0 || at >= line.extent) {
            *fault = kIndexOutOfRange;
            continue;
        }
        Element& target = out[offset[0] + at * line.out_step];
        const Element value = source[offset[2] + i * line.source_step];
        if constexpr (kAdd) {
            target = from_arithmetic<Element>(to_arithmetic(target) + to_arithmetic(value));
        } else {
            target = value;
        }
    }
}

template <class Element, bool kAdd>
KernelStatus launch_scatter(const KernelContext& context, const ScatterCall& call,
                            const TensorView& source, const TensorView& index,
                            const TensorView& out) {
    return with_index_dtype(index.dtype, [&](auto index_tag) -> KernelStatus {
        using Index = decltype(index_tag);
        scatter_lines<Element, Index, kAdd>
            <<<static_cast<unsigned>(call.blocks), kElementwiseThreads, 0,
               static_cast<cudaStream_t>(context.stream)>>>(
                call.nest, out.as<Element>(), index.as<const Index>(), source.as<const Element>(),
                call.line, call.fault);
        return finish_launch("scatter", context.stream);
    });
}

KernelStatus scatter(const KernelContext& context, const TensorView& source, std::int32_t dimension,
                     const TensorView& index, std::int32_t add, const TensorView& out) {
    if (source.dtype != out.dtype) return kKernelUnsupportedDtype;
    TensorView lines[3] = {out, index, source};
    ScatterCall call{};
    call.line = {1, 1, 0, 0, 0};
    if (index.dimensions > 0) {
        call.line = {index.sizes[dimension], out.sizes[dimension], out.strides[dimension],
                     index.strides[dimension], source.strides[dimension]};
    }
    for (TensorView& view : lines) {
        for (int d = 0; d < index.dimensions; ++d) {
            view.sizes[d] = d == dimension ? 1 : index.sizes[d];
        }
    }
    const TensorView* const views[3] = {&lines[0], &lines[1], &lines[2]};
    call.nest = element_nest(views, 1);
    call.blocks = grid_for(call.nest.packs, kElementwiseThreads);
    const KernelStatus status = check_launch("scatter", context, call.blocks);
    if (status != kKernelOk || call.blocks == 0 || call.line.length == 0) return status;
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    call.fault = device->fault;
    if (has_few_long_lines(call)) {
        return scatter_sorted(context, call, source, index, add != 0, out);
    }
    if (add == 0) {
        return with_element_bytes(size_of(out.dtype), [&](auto tag) {
            return launch_scatter<decltype(tag), false>(context, call, source, index, out);
        });
    }
    return with_element_to_add(out.dtype, [&](auto tag) {
        return launch_scatter<decltype(tag), true>(context, call, source, index, out);
    });
}

}  // namespace

void register_indexing(KernelTable& table) {
    table.gather = gather;
    table.scatter = scatter;
}

}  // namespace tempra::cuda
