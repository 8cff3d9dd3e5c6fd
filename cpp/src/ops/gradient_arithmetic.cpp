#include "autograd/gradient_arithmetic.h"

#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

Tensor gradient_zeros(const Shape& sizes, DType dtype, Device device) {
    return zeros(sizes, dtype, device);
}
Tensor gradient_ones(const Shape& sizes, DType dtype, Device device) {
    return full(sizes, 1.0, dtype, device);
}
Tensor gradient_copy(const Tensor& gradient) { return clone(gradient); }
Tensor gradient_contiguous(const Tensor& gradient) { return contiguous(gradient); }
Tensor gradient_cast(const Tensor& gradient, DType dtype) { return cast(gradient, dtype); }
Tensor gradient_sum(const Tensor& a, const Tensor& b) { return add(a, b); }

}  // namespace tempra
