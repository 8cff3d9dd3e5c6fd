// Chooses the kernel table for a device, a dtype and the instruction set in use.
#pragma once

#include "cpu/isa.h"
#include "dispatch/kernel_table.h"

namespace tempra {

// The CPU table of one ISA; DeviceError if this processor or build cannot run it.
[[nodiscard]] const KernelTable& cpu_kernel_table(cpu::Isa isa);

// The ISA in use: TEMPRA_ISA at first use, else the best one; `set_isa` forces another.
[[nodiscard]] cpu::Isa current_isa();
void set_isa(cpu::Isa isa);

// f32 and bf16 run on the current ISA, everything else on the baseline table. DeviceError for a
// device without kernels.
[[nodiscard]] const KernelTable& kernels_for(const Device& device, DType dtype);

// Where kernels of a CUDA device go; on the CPU that is KernelContext{}.
[[nodiscard]] KernelContext context_on(const Device& device);

// Raises the error that belongs to `status`; `operation` opens the message.
void check_status(KernelStatus status, const char* operation, DType dtype,
                  const Device& device = {});

[[noreturn]] void raise_mixed_devices(const char* operation, const Device& one,
                                      const Device& other);

}  // namespace tempra
