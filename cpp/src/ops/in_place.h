// What every operation that writes into an existing tensor checks first.
#pragma once

#include "tempra/autograd.h"
#include "tempra/tensor.h"
#include "tensor/tensor_access.h"

namespace tempra {

inline void check_writable(const char* operation, const Tensor& tensor) {
    TEMPRA_CHECK(
        Error, TensorAccess::impl(tensor).storage->writable(),
        "{}: this tensor's memory is read-only (a mapped file or a read-only array); clone it "
        "first",
        operation);
    TEMPRA_CHECK(
        Error, !is_grad_enabled() || !tensor.requires_grad(),
        "{}: in-place writes to a tensor that requires grad are not recorded; do it inside "
        "no_grad()",
        operation);
}

}  // namespace tempra
