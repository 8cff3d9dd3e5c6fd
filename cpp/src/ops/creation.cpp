#include "tempra/ops/creation.h"

#include <cmath>
#include <cstring>

#include "dispatch/launch.h"
#include "ops/in_place.h"
#include "tempra/autograd.h"
#include "tempra/ops/layout.h"
#include "tensor/dtype_range.h"
#include "tensor/tensor_access.h"

namespace tempra {

Tensor empty(const Shape& sizes, DType dtype, Device device) {
    IntrusivePtr<TensorImpl> impl = make_counted<TensorImpl>();
    std::int64_t bytes = 0;
    TEMPRA_CHECK(ShapeError, !__builtin_mul_overflow(sizes.numel(), size_of(dtype), &bytes),
                 "empty: shape {} of dtype {} does not fit 63 bits of bytes", sizes, dtype);
    impl->storage = make_counted<Storage>(bytes, device);
    impl->version = make_counted<VersionCounter>();
    impl->sizes = sizes;
    impl->strides = contiguous_strides(sizes);
    impl->dtype = dtype;
    impl->device = device;
    return TensorAccess::wrap(std::move(impl));
}

Tensor zeros(const Shape& sizes, DType dtype, Device device) {
    Tensor result = empty(sizes, dtype, device);
    if (device.type == DeviceType::cpu) {
        std::memset(result.data(), 0, static_cast<size_t>(result.bytes()));
    } else {
        launch("zeros", result, &KernelTable::fill, result.view(), 0.0);
    }
    return result;
}

Tensor full(const Shape& sizes, double value, DType dtype, Device device) {
    check_representable("full", value, dtype);
    Tensor result = empty(sizes, dtype, device);
    launch("full", result, &KernelTable::fill, result.view(), value);
    return result;
}

Tensor arange(double start, double stop, double step, DType dtype, Device device) {
    TEMPRA_CHECK(ShapeError,
                 step != 0 && std::isfinite(start) && std::isfinite(stop) && std::isfinite(step),
                 "arange: start {}, stop {}, step {} given; they must be finite and step not 0",
                 start, stop, step);
    const double count = std::ceil((stop - start) / step);
    if (count > 0) {
        check_representable("arange", start, dtype);
        check_representable("arange", start + (count - 1) * step, dtype);
    }
    Tensor result = empty({count > 0 ? static_cast<std::int64_t>(count) : 0}, dtype, device);
    launch("arange", result, &KernelTable::arange, result.view(), start, step);
    return result;
}

Tensor empty_like(const Tensor& tensor) {
    return empty(tensor.sizes(), tensor.dtype(), tensor.device());
}
Tensor zeros_like(const Tensor& tensor) {
    return zeros(tensor.sizes(), tensor.dtype(), tensor.device());
}

void fill_(Tensor tensor, double value) {
    check_writable("fill_", tensor);
    check_representable("fill_", value, tensor.dtype());
    launch("fill_", tensor, &KernelTable::fill, tensor.view(), value);
    tensor.bump_version();
}

void copy_(Tensor destination, const Tensor& source) {
    check_writable("copy_", destination);
    const GradModeGuard off(false);
    // Across devices the bytes travel first; the dtype is converted where they arrive.
    const Tensor from = expand(to_device(source, destination.device()), destination.sizes());
    // The table is that of the floating dtype involved, where there is one of f32 and bf16.
    const bool by_source = source.dtype() == DType::f32 || source.dtype() == DType::bf16;
    const bool by_destination =
        destination.dtype() == DType::f32 || destination.dtype() == DType::bf16;
    if (by_source && by_destination) {
        launch("copy_", destination, &KernelTable::copy, from.view(), destination.view());
    } else {
        check_status(launch_status("copy_", destination.device(), DType::f64, &KernelTable::copy,
                                   from.view(), destination.view()),
                     "copy_", destination.dtype(), destination.device());
    }
    destination.bump_version();
}

}  // namespace tempra
