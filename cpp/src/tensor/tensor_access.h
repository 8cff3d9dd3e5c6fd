// What only the library's own layers may see of a tensor.
#pragma once

#include <memory>

#include "autograd/node.h"
#include "memory/storage.h"
#include "tempra/tensor.h"

namespace tempra {

// The part of a tensor that exists only when it takes part in a gradient.
struct AutogradRecord {
    bool requires_grad = false;
    int output_index = 0;
    IntrusivePtr<Node> node;  // that made this tensor; null for a leaf
    Tensor grad;              // of a leaf
    // bf16 copy of an f32 parameter, current while `low_precision_version` equals the version.
    Tensor low_precision;
    std::uint64_t low_precision_version = 0;
};

class TensorImpl : public RefCounted {
  public:
    IntrusivePtr<Storage> storage;
    IntrusivePtr<VersionCounter> version;
    Shape sizes;
    Strides strides;
    std::int64_t offset = 0;  // elements
    DType dtype = DType::f32;
    Device device;
    std::unique_ptr<AutogradRecord> autograd;
};

class TensorAccess {
  public:
    [[nodiscard]] static TensorImpl& impl(const Tensor& tensor) { return *tensor.impl_; }
    [[nodiscard]] static TensorImpl* pointer(const Tensor& tensor) { return tensor.impl_.get(); }
    // True when this handle is the only one and no other tensor shares the storage.
    [[nodiscard]] static bool uniquely_owned(const Tensor& tensor) {
        return tensor.impl_->unique() && tensor.impl_->storage->unique();
    }
    [[nodiscard]] static Tensor wrap(IntrusivePtr<TensorImpl> impl) {
        Tensor tensor;
        tensor.impl_ = std::move(impl);
        return tensor;
    }
    [[nodiscard]] static AutogradRecord& record(const Tensor& tensor) {
        TensorImpl& target = *tensor.impl_;
        if (!target.autograd) target.autograd = std::make_unique<AutogradRecord>();
        return *target.autograd;
    }
    // A view of the same storage and version with its own geometry; no autograd record.
    [[nodiscard]] static Tensor alias(const Tensor& base, const Shape& sizes,
                                      const Strides& strides, std::int64_t offset);
    // Lets `target` live at `offset` elements into `storage` (its bytes are not copied).
    static void rebind(const Tensor& target, const IntrusivePtr<Storage>& storage,
                       std::int64_t offset);
};

}  // namespace tempra
