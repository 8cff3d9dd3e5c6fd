// The members of Tensor that concern gradients.
#include "autograd/autograd_record.h"
#include "autograd/gradient_arithmetic.h"
#include "dispatch/launch.h"
#include "dispatch/select.h"
#include "tempra/training.h"

namespace tempra {

void write_zero_gradient(AutogradRecord& record) {
    if (!record.grad_is_unwritten) return;
    launch("grad", record.grad, &KernelTable::fill, record.grad.view(), 0.0);
    record.grad_is_unwritten = false;
}

bool Tensor::requires_grad() const {
    if (!has_autograd_record(*this)) return false;
    const AutogradRecord& record = autograd_record(*this);
    return record.requires_grad || record.node;
}

Tensor& Tensor::set_requires_grad(bool value) {
    if (value) require_training("requires_grad");
    TEMPRA_CHECK(ShapeError, is_leaf(),
                 "requires_grad: this tensor was computed by an operation; only leaves can be set");
    TEMPRA_CHECK(DtypeError, !value || is_floating(dtype()),
                 "requires_grad: a tensor of dtype {} has no gradient; use a floating-point dtype",
                 dtype());
    autograd_record(*this).requires_grad = value;
    return *this;
}

bool Tensor::is_leaf() const { return !has_autograd_record(*this) || !autograd_record(*this).node; }

Tensor Tensor::grad() const {
    if (!has_autograd_record(*this)) return {};
    AutogradRecord& record = autograd_record(*this);
    write_zero_gradient(record);
    return record.grad;
}

void Tensor::set_grad(const Tensor& gradient) {
    TEMPRA_CHECK(ShapeError, !gradient.defined() || gradient.sizes() == sizes(),
                 "grad: shape {} given for a tensor of shape {}", gradient.sizes(), sizes());
    if (gradient.defined() && gradient.device() != device()) {
        raise_mixed_devices("grad", device(), gradient.device());
    }
    AutogradRecord& record = autograd_record(*this);
    if (record.arena.expired()) {
        record.grad = gradient;
        record.grad_is_unwritten = false;
        return;
    }
    // The optimizer reads its own memory, whatever a handle says.
    if (gradient.defined()) {
        // Its own bytes in another order would change while they are read.
        const bool own = TensorAccess::impl(gradient).storage.get() ==
                         TensorAccess::impl(record.grad).storage.get();
        const Tensor given = own ? gradient_copy(gradient.detach()) : gradient;
        launch("grad", record.grad, &KernelTable::copy, given.view(), record.grad.view());
    } else {
        launch("grad", record.grad, &KernelTable::fill, record.grad.view(), 0.0);
    }
    record.grad_is_unwritten = false;
    record.grad.bump_version();
}

}  // namespace tempra
