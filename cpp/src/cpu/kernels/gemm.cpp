#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

void register_gemm(KernelTable& /*table*/) {}

}  // namespace tempra::cpu::TEMPRA_ISA
