#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

void register_rotary(KernelTable& /*table*/) {}

}  // namespace tempra::cpu::TEMPRA_ISA
