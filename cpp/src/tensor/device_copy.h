// Bytes from one device to another: what every layer above has of it.
#pragma once

#include "tempra/tensor.h"

namespace tempra {

// A contiguous tensor's bytes on another device; no autograd record. From a CUDA device it waits.
[[nodiscard]] Tensor copied_to_device(const Tensor& contiguous, Device device);

}  // namespace tempra
