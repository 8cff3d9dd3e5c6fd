// Rules made of several operations round after each of them; in f32 a 16-bit result is rounded
// once.
#pragma once

#include "tempra/ops/layout.h"

namespace tempra {

// x as f32 where it is bf16 or f16, else x itself.
[[nodiscard]] inline Tensor widened(const Tensor& x) {
    return x.dtype() == DType::bf16 || x.dtype() == DType::f16 ? cast(x, DType::f32) : x;
}

}  // namespace tempra
