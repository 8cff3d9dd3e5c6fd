#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

void register_sort(KernelTable& /*table*/) {}

}  // namespace tempra::cpu::TEMPRA_ISA
