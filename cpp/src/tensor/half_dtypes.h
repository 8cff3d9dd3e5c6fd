// The floating dtypes of two bytes, beside which parameters may stay f32.
#pragma once

#include "tempra/dtype.h"

namespace tempra {

[[nodiscard]] constexpr bool is_half(DType dtype) {
    return dtype == DType::bf16 || dtype == DType::f16;
}

}  // namespace tempra
