// Each kernel file enters its kernels into the table of the ISA it is compiled for.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cpu::TEMPRA_ISA {

void register_adamw(KernelTable& table);
void register_arg_reduce(KernelTable& table);
void register_attention(KernelTable& table);
void register_copy(KernelTable& table);
void register_cumulative_sum(KernelTable& table);
void register_elementwise_binary(KernelTable& table);
void register_elementwise_unary(KernelTable& table);
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

}  // namespace tempra::cpu::TEMPRA_ISA
