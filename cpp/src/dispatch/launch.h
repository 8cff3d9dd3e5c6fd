// Calls a kernel of the right table and turns its status into an error.
#pragma once

#include "dispatch/select.h"
#include "tempra/error.h"
#include "tempra/profile.h"
#include "tempra/tensor.h"

namespace tempra {

// launch("softmax", x, &KernelTable::softmax, x.view(), ...): the table is chosen by the device and
// dtype of `chooser`.
template <class Kernel, class... Arguments>
void launch(const char* operation, const Tensor& chooser, Kernel KernelTable::*kernel,
            const Arguments&... arguments) {
    const KernelTable& table = kernels_for(chooser.device(), chooser.dtype());
    TEMPRA_CHECK(DeviceError, table.*kernel != nullptr, "{}: device {} has no kernel for it",
                 operation, chooser.device());
    const ProfileScope scope(operation);
    check_status((table.*kernel)(KernelContext{}, arguments...), operation, chooser.dtype());
}

}  // namespace tempra
