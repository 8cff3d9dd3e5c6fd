// Turns a run-time dtype into a template parameter for the compute dtypes of this ISA.
#pragma once

#include "dispatch/kernel_table.h"
#include "tempra/dtype.h"

namespace tempra::cpu::TEMPRA_ISA {

template <class T>
struct TypeTag {
    using type = T;
};

// Calls body(TypeTag<T>{}) for f32 and bf16, and for f64 on the baseline.
template <class Body>
inline KernelStatus with_compute_dtype(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::f32: return body(TypeTag<float>{});
        case DType::bf16: return body(TypeTag<bfloat16>{});
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return body(TypeTag<double>{});
#endif
        default: return kKernelUnsupportedDtype;
    }
}

// Calls body(TypeTag<W>{}) for a parameter (weight, bias) of a kernel computing in T: W is T or
// float.
template <class T, class Body>
inline KernelStatus with_parameter_dtype(DType compute_dtype, DType dtype, const Body& body) {
    if (dtype == compute_dtype) return body(TypeTag<T>{});
    if (dtype == DType::f32) return body(TypeTag<float>{});
    return kKernelUnsupportedDtype;
}

}  // namespace tempra::cpu::TEMPRA_ISA
