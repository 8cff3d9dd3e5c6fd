// What the two ways to scatter share.
#pragma once

#include "element_map.cuh"

namespace tempra::cuda {

// One line along the indexed dimension.
struct ScatterLine {
    std::int64_t length, extent, out_step, index_step, source_step;
};

// `nest`: where lines begin, in out, index and source.
struct ScatterCall {
    ElementNest<3> nest;
    ScatterLine line;
    std::int64_t blocks;  // with a thread per line
    std::int32_t* fault;
};

// Too few lines for a thread each to fill a device. From shapes alone.
[[nodiscard]] inline bool has_few_long_lines(const ScatterCall& call) {
    return call.nest.packs < 16384 && call.line.length >= 512 &&
           call.nest.packs * call.line.length <= INT32_MAX;
}

// Indices in order of their places in `out`, stably: then every place is one thread's.
[[nodiscard]] KernelStatus scatter_sorted(const KernelContext& context, const ScatterCall& call,
                                          const TensorView& source, const TensorView& index,
                                          bool add, const TensorView& out);

// body(an element of as many bytes): for elements that are only moved.
template <class Body>
[[nodiscard]] KernelStatus with_element_bytes(std::int64_t bytes, const Body& body) {
    switch (bytes) {
        case 1: return body(MemoryWord<1>::type{});
        case 2: return body(MemoryWord<2>::type{});
        case 4: return body(MemoryWord<4>::type{});
        default: return body(MemoryWord<8>::type{});
    }
}

// body(an element that can be added); integers wrap.
template <class Body>
[[nodiscard]] KernelStatus with_element_to_add(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::f32: return body(float{});
        case DType::bf16: return body(bfloat16{});
        case DType::f16: return body(float16{});
        case DType::i64: return body(std::uint64_t{});
        case DType::i32: return body(std::uint32_t{});
        default: return kKernelUnsupportedDtype;
    }
}

template <class Body>
[[nodiscard]] KernelStatus with_index_dtype(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::i64: return body(std::int64_t{});
        case DType::i32: return body(std::int32_t{});
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace tempra::cuda
