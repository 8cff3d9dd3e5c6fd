// Kernels over rows exist for data and parameters of the types that the kernel table promises.
#pragma once

#include "kernel_table.h"

namespace tempra::cuda {

template <class T>
struct Tag {
    using type = T;
};

// body(Tag<T>) for the compute dtypes.
template <class Body>
[[nodiscard]] KernelStatus with_compute_dtype(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::f32: return body(Tag<float>{});
        case DType::bf16: return body(Tag<bfloat16>{});
        case DType::f16: return body(Tag<float16>{});
        default: return kKernelUnsupportedDtype;
    }
}
// The same for those of two bytes.
template <class Body>
[[nodiscard]] KernelStatus with_half_dtype(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::bf16: return body(Tag<bfloat16>{});
        case DType::f16: return body(Tag<float16>{});
        default: return kKernelUnsupportedDtype;
    }
}

// body(Tag<T>, Tag<W>): parameters have the data's dtype or are fp32.
template <class Body>
[[nodiscard]] KernelStatus with_parameter_dtype(DType data, DType parameters, const Body& body) {
    if (data == DType::f32 && parameters == DType::f32) return body(Tag<float>{}, Tag<float>{});
    if (data == DType::bf16 && parameters == DType::f32) return body(Tag<bfloat16>{}, Tag<float>{});
    if (data == DType::bf16 && parameters == DType::bf16) {
        return body(Tag<bfloat16>{}, Tag<bfloat16>{});
    }
    if (data == DType::f16 && parameters == DType::f32) return body(Tag<float16>{}, Tag<float>{});
    if (data == DType::f16 && parameters == DType::f16) return body(Tag<float16>{}, Tag<float16>{});
    return kKernelUnsupportedDtype;
}

}  // namespace tempra::cuda
