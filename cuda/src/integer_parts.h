// The integer forms of binary and reduce, in a file of their own.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// Arithmetic of i64 or i32; a, b and out have that dtype.
[[nodiscard]] KernelStatus binary_integers(const KernelContext& context, BinaryOp op,
                                           const TensorView& a, const TensorView& b,
                                           const TensorView& out);
// Of i64, i32, u8 and bool; `out` has the dtype of `in`, or is i64.
[[nodiscard]] KernelStatus reduce_integers(const KernelContext& context, ReduceOp op,
                                           const TensorView& in, const TensorView& out);

}  // namespace tempra::cuda
