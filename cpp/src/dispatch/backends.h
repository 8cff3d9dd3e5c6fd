// Who fills a kernel table.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cpu {

namespace baseline {
void fill_kernel_table(KernelTable& table);
}
#if TEMPRA_X86_KERNELS
namespace avx2 {
void fill_kernel_table(KernelTable& table);
}
namespace avx512 {
void fill_kernel_table(KernelTable& table);
}
namespace avx512_bf16 {
void fill_kernel_table(KernelTable& table);
}
#endif

}  // namespace tempra::cpu
