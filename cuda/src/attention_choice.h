// Which kernels serve attention: cuDNN's where it is present and takes the shapes, or our own.
#pragma once

#include <cstdint>

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {

// abi.h says what they do.
TempraCudaStatus attention_choose(std::int32_t cudnn, std::int32_t deterministic) noexcept;
[[nodiscard]] const char* attention_kernels() noexcept;

// Not a status of the kernel table: our own kernels are to do it.
inline constexpr KernelStatus kOwnKernels = -1;

// The whole of attention, or its gradient, except for rows that belong to no sequence.
[[nodiscard]] KernelStatus attention_by_cudnn(const KernelContext& context,
                                              const AttentionArguments& a);
[[nodiscard]] KernelStatus attention_backward_by_cudnn(const KernelContext& context,
                                                       const AttentionBackwardArguments& b);

}  // namespace tempra::cuda
