// What only the library's own layers may see of a tensor.
#pragma once

#include <memory>

#include "memory/storage.h"
#include "tempra/tensor.h"

namespace tempra {

// What autograd hangs on a tensor that takes part in a gradient (autograd/autograd_record.h); the
// tensor only owns it.
struct AutogradSlot {
    AutogradSlot() = default;
    AutogradSlot(const AutogradSlot&) = delete;
    AutogradSlot& operator=(const AutogradSlot&) = delete;
    virtual ~AutogradSlot() = default;
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
    std::unique_ptr<AutogradSlot> autograd;
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
    // A view of the same storage and version with its own geometry; no autograd record.
    [[nodiscard]] static Tensor alias(const Tensor& base, const Shape& sizes,
                                      const Strides& strides, std::int64_t offset);
    // Lets `target` live at `offset` elements into `storage` (its bytes are not copied).
    static void rebind(const Tensor& target, const IntrusivePtr<Storage>& storage,
                       std::int64_t offset);
};

}  // namespace tempra
