#include "kernel_table.h"

namespace tempra::cuda {

const KernelTable& kernel_table() {
    static const KernelTable table = [] {
        KernelTable t;
        register_copy(t);
        register_elementwise_binary(t);
        register_elementwise_unary(t);
        register_elementwise_unary_backward(t);
        register_fill(t);
        return t;
    }();
    return table;
}

}  // namespace tempra::cuda
