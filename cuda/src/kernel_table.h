// The CUDA library's KernelTable and who fills it. Kernels that are not written are null.
//
// Beyond what dispatch/kernel_table.h says, on CUDA every pointer inside an argument struct is
// device memory (segments, groups, StepScalars, the sum of squares), `KernelContext::stream` must
// name a stream of the current device, kernels return before they have run, and a fault that shows
// only on the device (an index out of range) is reported by `stream_synchronize`.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cuda {

[[nodiscard]] const KernelTable& kernel_table();

void register_adamw(KernelTable& table);
void register_arg_reduce(KernelTable& table);
void register_attention(KernelTable& table);
void register_categorical(KernelTable& table);
void register_copy(KernelTable& table);
void register_cumulative_sum(KernelTable& table);
void register_elementwise_binary(KernelTable& table);
void register_elementwise_unary(KernelTable& table);
void register_elementwise_unary_backward(KernelTable& table);
void register_embedding(KernelTable& table);
void register_fill(KernelTable& table);
void register_gemm(KernelTable& table);
void register_grad_norm(KernelTable& table);
void register_indexing(KernelTable& table);
void register_layer_norm(KernelTable& table);
void register_linear_cross_entropy(KernelTable& table);
void register_random(KernelTable& table);
void register_reduce(KernelTable& table);
void register_rms_norm(KernelTable& table);
void register_rotary(KernelTable& table);
void register_softmax(KernelTable& table);
void register_sort(KernelTable& table);
void register_swiglu(KernelTable& table);

}  // namespace tempra::cuda
