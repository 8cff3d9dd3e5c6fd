// Calls a kernel of the right table and turns its status into an error.
#pragma once

#include <initializer_list>

#include "dispatch/select.h"
#include "tempra/error.h"
#include "tempra/profile.h"
#include "tempra/tensor.h"

namespace tempra {

// DeviceError, naming the operation and both devices, unless all tensors are on `device`.
inline void check_same_device(const char* operation, const Device& device,
                              std::initializer_list<const TensorView*> views) {
    for (const TensorView* view : views) {
        if (view->present() && view->device != device) {
            raise_mixed_devices(operation, device, view->device);
        }
    }
}

// The tensors among a kernel's arguments; what is none (a number, an arena's pointer) is passed by.
template <class Argument>
void check_argument(const char* /*operation*/, const Device& /*device*/, const Argument&) {}
inline void check_argument(const char* operation, const Device& device, const TensorView& view) {
    check_same_device(operation, device, {&view});
}
inline void check_argument(const char* operation, const Device& device, const GemmArguments& g) {
    check_same_device(operation, device, {&g.a, &g.b, &g.c, &g.bias, &g.residual});
}
inline void check_argument(const char* operation, const Device& device,
                           const AttentionArguments& a) {
    check_same_device(operation, device, {&a.q, &a.k, &a.v, &a.offsets_q, &a.offsets_k});
}
inline void check_argument(const char* operation, const Device& device,
                           const AttentionBackwardArguments& a) {
    check_argument(operation, device, a.forward);
    check_same_device(operation, device, {&a.grad_out});
}
inline void check_argument(const char* operation, const Device& device,
                           const LinearCrossEntropyArguments& a) {
    check_same_device(operation, device,
                      {&a.hidden, &a.weight, &a.bias, &a.labels, &a.grad_losses, &a.grad_weight});
}

// For kernels whose status says more than the caller's operation: see `launch`.
template <class Kernel, class... Arguments>
[[nodiscard]] KernelStatus launch_status(const char* operation, const Device& device, DType dtype,
                                         Kernel KernelTable::*kernel,
                                         const Arguments&... arguments) {
    (check_argument(operation, device, arguments), ...);
    const KernelTable& table = kernels_for(device, dtype);
    TEMPRA_CHECK(DeviceError, table.*kernel != nullptr, "{}: device {} has no kernel for it",
                 operation, device);
    const ProfileScope scope(operation);
    const KernelContext context =
        device.type == DeviceType::cpu ? KernelContext{} : context_on(device);
    return (table.*kernel)(context, arguments...);
}

// launch("softmax", x, &KernelTable::softmax, x.view(), ...): the table is chosen by the device and
// dtype of `chooser`.
template <class Kernel, class... Arguments>
void launch(const char* operation, const Tensor& chooser, Kernel KernelTable::*kernel,
            const Arguments&... arguments) {
    const Device device = chooser.device();
    check_status(launch_status(operation, device, chooser.dtype(), kernel, arguments...), operation,
                 chooser.dtype(), device);
}

}  // namespace tempra
