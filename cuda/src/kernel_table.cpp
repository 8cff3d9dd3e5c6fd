#include "kernel_table.h"

namespace tempra::cuda {

const KernelTable& kernel_table() {
    static const KernelTable table = [] {
        KernelTable t;
        register_adamw(t);
        register_arg_reduce(t);
        register_attention(t);
        register_categorical(t);
        register_copy(t);
        register_cumulative_sum(t);
        register_elementwise_binary(t);
        register_elementwise_unary(t);
        register_elementwise_unary_backward(t);
        register_embedding(t);
        register_fill(t);
        register_gemm(t);
        register_grad_norm(t);
        register_indexing(t);
        register_layer_norm(t);
        register_linear_cross_entropy(t);
        register_random(t);
        register_reduce(t);
        register_rms_norm(t);
        register_rotary(t);
        register_softmax(t);
        register_sort(t);
        register_swiglu(t);
        return t;
    }();
    return table;
}

}  // namespace tempra::cuda
