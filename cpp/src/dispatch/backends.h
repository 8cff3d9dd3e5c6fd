// Who fills a kernel table. TEMPRA_ISA_LEVEL is the highest cpu::Isa that was built.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cpu {

namespace baseline {
void fill_kernel_table(KernelTable& table);
}
#if TEMPRA_ISA_LEVEL >= 1
namespace avx2 {
void fill_kernel_table(KernelTable& table);
}
#endif
#if TEMPRA_ISA_LEVEL >= 2
namespace avx512 {
void fill_kernel_table(KernelTable& table);
}
#endif
#if TEMPRA_ISA_LEVEL >= 3
namespace avx512_bf16 {
void fill_kernel_table(KernelTable& table);
}
#endif

}  // namespace tempra::cpu
