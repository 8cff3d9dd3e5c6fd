// Making tensors.
#pragma once

#include <vector>

#include "tempra/tensor.h"

namespace tempra {

// Uninitialised.
[[nodiscard]] Tensor empty(const Shape& sizes, DType dtype = DType::f32, Device device = {});
[[nodiscard]] Tensor zeros(const Shape& sizes, DType dtype = DType::f32, Device device = {});
// Integer dtypes cut off a fraction; DtypeError for what they cannot hold, nan among it. The same
// goes for arange and fill_.
[[nodiscard]] Tensor full(const Shape& sizes, double value, DType dtype = DType::f32,
                          Device device = {});
// start, start + step, ... while below (above, for a negative step) stop.
[[nodiscard]] Tensor arange(double start, double stop, double step = 1, DType dtype = DType::i64,
                            Device device = {});
[[nodiscard]] Tensor empty_like(const Tensor& tensor);
[[nodiscard]] Tensor zeros_like(const Tensor& tensor);

// In place, on tensors that do not take part in a recorded gradient; bump the version.
void fill_(Tensor tensor, double value);
// Broadcasts, converts the dtype, and may cross devices.
void copy_(Tensor destination, const Tensor& source);
// The same tensors on another device, their gradients too: handles stay, views are left behind.
// Error for what an operation computed and for parameters in an arena that somebody still holds;
// whatever is raised, and be it for want of memory, no tensor has moved.
void move_(const std::vector<Tensor>& tensors, Device device);

}  // namespace tempra
