#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

void register_rms_norm(KernelTable& /*table*/) {}

}  // namespace tempra::cpu::TEMPRA_ISA
