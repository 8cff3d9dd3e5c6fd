// Fills the kernel table of the ISA this file is compiled for.
#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

void fill_kernel_table(KernelTable& table) {
    register_adamw(table);
    register_arg_reduce(table);
    register_attention(table);
    register_copy(table);
    register_cumulative_sum(table);
    register_elementwise_binary(table);
    register_elementwise_unary(table);
    register_embedding(table);
    register_fill(table);
    register_gemm(table);
    register_grad_norm(table);
    register_indexing(table);
    register_layer_norm(table);
    register_linear_cross_entropy(table);
    register_random(table);
    register_reduce(table);
    register_rms_norm(table);
    register_rotary(table);
    register_softmax(table);
    register_sort(table);
    register_swiglu(table);
}

}  // namespace tempra::cpu::TEMPRA_ISA
