// The kernel table of the CUDA library.
#pragma once

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra {

// A copy of the library's table; kernels that it does not have are null.
[[nodiscard]] KernelTable kernels_of(const TempraCudaLibrary& library);

// The table for a device and where its kernels go; DeviceError, with the reason, where the device
// cannot be used.
[[nodiscard]] const KernelTable& cuda_kernel_table(int index);
[[nodiscard]] KernelContext cuda_kernel_context(int index);

// The library's words for the calling thread's last failure.
[[nodiscard]] const char* cuda_failure(int index);

}  // namespace tempra
