// Calls a kernel of the right table and turns its status into an error.
#pragma once

#include "dispatch/select.h"
#include "tempra/error.h"
#include "tempra/profile.h"
#include "tempra/tensor.h"

namespace tempra {

// For kernels whose status says more than the caller's operation: see `launch`.
template <class Kernel, class... Arguments>
[[nodiscard]] KernelStatus launch_status(const char* operation, const Device& device, DType dtype,
                                         Kernel KernelTable::*kernel,
                                         const Arguments&... arguments) {
    const KernelTable& table = kernels_for(device, dtype);
    TEMPRA_CHECK(DeviceError, table.*kernel != nullptr, "{}: device {} has no kernel for it",
                 operation, device);
    const ProfileScope scope(operation);
    return (table.*kernel)(KernelContext{}, arguments...);
}

// launch("softmax", x, &KernelTable::softmax, x.view(), ...): the table is chosen by the device and
// dtype of `chooser`.
template <class Kernel, class... Arguments>
void launch(const char* operation, const Tensor& chooser, Kernel KernelTable::*kernel,
            const Arguments&... arguments) {
    check_status(launch_status(operation, chooser.device(), chooser.dtype(), kernel, arguments...),
                 operation, chooser.dtype());
}

}  // namespace tempra
