// The parts of gemm, each in a file of its own.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// cuBLASLt has no algorithm for this product; not a status of the kernel table.
inline constexpr KernelStatus kNoAlgorithm = -1;

// c = a @ b with the parts of the epilogue that `gemm_finish` calls in_product. a and b have one
// dtype and layouts that `gemm_operand` accepts; bias has c's dtype.
[[nodiscard]] KernelStatus multiply_by_cublas(const KernelContext& context, const GemmArguments& g);
// Any product, any strides, any epilogue, by a kernel of our own: for what cuBLASLt does not take.
[[nodiscard]] KernelStatus multiply_generally(const KernelContext& context, const GemmArguments& g);
// c from fp32 sums [m, n] (contiguous; may be c's own memory) and all of the epilogue.
[[nodiscard]] KernelStatus finish_sums(const KernelContext& context, const float* sums,
                                       const GemmArguments& g);

}  // namespace tempra::cuda
