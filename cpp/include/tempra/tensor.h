// The tensor: a counted handle to storage, sizes, strides, offset, dtype, device and, when it takes
// part in a gradient, an autograd record. Copies of the handle share everything.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tempra/dtype.h"
#include "tempra/intrusive_ptr.h"
#include "tempra/shape.h"
#include "tempra/tensor_view.h"

namespace tempra {

class TensorImpl;
class TensorAccess;

class Tensor {
  public:
    Tensor() noexcept;  // absent; every accessor but defined() needs a defined tensor
    Tensor(const Tensor& other) noexcept;
    Tensor(Tensor&& other) noexcept;
    Tensor& operator=(const Tensor& other) noexcept;
    Tensor& operator=(Tensor&& other) noexcept;
    ~Tensor();

    [[nodiscard]] bool defined() const noexcept { return static_cast<bool>(impl_); }
    [[nodiscard]] const Shape& sizes() const;
    [[nodiscard]] const Strides& strides() const;
    [[nodiscard]] int dimensions() const;
    [[nodiscard]] std::int64_t size(std::int64_t dimension) const;  // negative counts from the end
    [[nodiscard]] std::int64_t numel() const;
    [[nodiscard]] std::int64_t bytes() const;  // numel * size of an element
    [[nodiscard]] DType dtype() const;
    [[nodiscard]] Device device() const;
    [[nodiscard]] bool is_contiguous() const;

    // First element; an address of the device. Views of one storage share bytes.
    [[nodiscard]] void* data() const;
    template <class T>
    [[nodiscard]] T* data_as() const {
        return static_cast<T*>(data());
    }
    // What kernels take; an undefined tensor gives an absent view.
    [[nodiscard]] TensorView view() const;

    // The only element, as double; waits for a CUDA device. ShapeError unless numel() == 1.
    [[nodiscard]] double item() const;

    [[nodiscard]] bool requires_grad() const;
    // Only floating-point leaves can be told to record; DtypeError, ShapeError otherwise.
    Tensor& set_requires_grad(bool value);
    [[nodiscard]] bool is_leaf() const;
    [[nodiscard]] Tensor grad() const;
    // Undefined: none. The gradient of a parameter in an optimizer's arena stays the arena's: the
    // numbers are copied there, zeros for none.
    void set_grad(const Tensor& gradient);
    // Shares the bytes and the version, records nothing.
    [[nodiscard]] Tensor detach() const;
    // Counts in-place writes to this tensor and its views.
    [[nodiscard]] std::uint64_t version() const;
    void bump_version();

    // Equal for handles of the same tensor, for as long as one of them lives.
    [[nodiscard]] const void* identity() const noexcept;

  private:
    friend class TensorAccess;
    IntrusivePtr<TensorImpl> impl_;
};

// Wraps memory that somebody else owns; `release` runs when the last tensor that shares it is gone.
[[nodiscard]] Tensor from_memory(void* data, const Shape& sizes, const Strides& strides,
                                 DType dtype, std::function<void()> release, bool writable = true,
                                 Device device = {});

// "tensor([2, 3], f32)" and the values of small tensors.
[[nodiscard]] std::string to_string(const Tensor& tensor);

}  // namespace tempra
