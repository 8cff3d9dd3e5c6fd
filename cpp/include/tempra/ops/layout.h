// Views, copies and joins. Views share the storage; gradients flow through all of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tempra/tensor.h"

namespace tempra {

// One size may be -1. A view where the strides allow it, else a copy.
[[nodiscard]] Tensor reshape(const Tensor& x, const Shape& sizes);
[[nodiscard]] Tensor transpose(const Tensor& x, std::int64_t first, std::int64_t second);
[[nodiscard]] Tensor permute(const Tensor& x, std::span<const std::int64_t> order);
// NumPy broadcasting to `sizes`, without a copy; -1 keeps a size.
[[nodiscard]] Tensor expand(const Tensor& x, const Shape& sizes);
// x[..., start : start + length, ...] along `dimension`.
[[nodiscard]] Tensor narrow(const Tensor& x, std::int64_t dimension, std::int64_t start,
                            std::int64_t length);
// x[start : stop : step] along `dimension`, step >= 1, bounds as Python clamps them.
[[nodiscard]] Tensor slice(const Tensor& x, std::int64_t dimension, std::int64_t start,
                           std::int64_t stop, std::int64_t step = 1);
// Drops `dimension` at `index`.
[[nodiscard]] Tensor select(const Tensor& x, std::int64_t dimension, std::int64_t index);
[[nodiscard]] Tensor squeeze(const Tensor& x, std::int64_t dimension);
[[nodiscard]] Tensor unsqueeze(const Tensor& x, std::int64_t dimension);

// The tensor itself when it is contiguous already.
[[nodiscard]] Tensor contiguous(const Tensor& x);
[[nodiscard]] Tensor clone(const Tensor& x);
// The tensor itself when it has that dtype already. Floats round to the nearest, ties to even; to
// an integer dtype they lose their fraction, and nan, infinity and what is outside its range become
// some integer, which may differ between devices. Integers keep their lowest bits. To bool: != 0.
[[nodiscard]] Tensor cast(const Tensor& x, DType dtype);
// The tensor itself when it is on that device already. To a CUDA device the copy is put behind what
// the device does and `x` may be changed at once; from one, the host waits.
[[nodiscard]] Tensor to_device(const Tensor& x, Device device);

[[nodiscard]] Tensor concatenate(const std::vector<Tensor>& tensors, std::int64_t dimension = 0);
[[nodiscard]] Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dimension = 0);
// Pieces of the given lengths, which add up to the size of `dimension`.
[[nodiscard]] std::vector<Tensor> split(const Tensor& x, std::span<const std::int64_t> lengths,
                                        std::int64_t dimension = 0);

// Sums `x` down to `sizes`: the gradient of broadcasting.
[[nodiscard]] Tensor sum_to(const Tensor& x, const Shape& sizes);

}  // namespace tempra
