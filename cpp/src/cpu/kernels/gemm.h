// The matrix product for other kernels of the same ISA; the contract is that of GemmArguments.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cpu::TEMPRA_ISA {

KernelStatus gemm(const KernelContext& context, const GemmArguments& arguments);

}  // namespace tempra::cpu::TEMPRA_ISA
