// The part of a tensor that exists only when it takes part in a gradient.
#pragma once

#include <memory>

#include "autograd/node.h"
#include "tensor/tensor_access.h"

namespace tempra {

struct AutogradRecord : AutogradSlot {
    bool requires_grad = false;
    int output_index = 0;
    IntrusivePtr<Node> node;  // that made this tensor; null for a leaf
    Tensor grad;              // of a leaf
    // `grad` is zero, but its bytes are not: they are to be written over, not added to. Nobody but
    // the record and the arena holds them then; `Tensor::grad` fills them first.
    bool grad_is_unwritten = false;
    // Of the arena whose bytes it is a part of; expires with that arena, and the bytes stay.
    std::weak_ptr<const void> arena;
    // bf16 or f16 copy of an f32 parameter, current while `low_precision_version` equals the
    // version.
    Tensor low_precision;
    std::uint64_t low_precision_version = 0;
};

[[nodiscard]] inline bool has_autograd_record(const Tensor& tensor) {
    return TensorAccess::impl(tensor).autograd != nullptr;
}

// Fills a gradient that is zero, but not written yet.
void write_zero_gradient(AutogradRecord& record);

// The tensor's record, made at the first call.
[[nodiscard]] inline AutogradRecord& autograd_record(const Tensor& tensor) {
    TensorImpl& target = TensorAccess::impl(tensor);
    if (!target.autograd) target.autograd = std::make_unique<AutogradRecord>();
    return static_cast<AutogradRecord&>(*target.autograd);
}

}  // namespace tempra
