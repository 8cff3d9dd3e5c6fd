#include "kernel_table.h"

namespace tempra::cuda {

const KernelTable& kernel_table() {
    static const KernelTable table = [] {
        KernelTable t;
        register_adamw(t);
        register_copy(t);
        register_elementwise_binary(t);
        register_elementwise_unary(t);
        register_elementwise_unary_backward(t);
        register_embedding(t);
        register_fill(t);
        register_grad_norm(t);
        register_layer_norm(t);
        register_random(t);
        register_reduce(t);
        register_rms_norm(t);
        register_softmax(t);
        register_swiglu(t);
        return t;
    }();
    return table;
}

}  // namespace tempra::cuda
