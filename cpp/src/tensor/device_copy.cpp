#include "tensor/device_copy.h"

#include "memory/cuda_stream.h"
#include "tempra/error.h"
#include "tensor/tensor_access.h"

namespace tempra {

namespace {

IntrusivePtr<Storage> bytes_on(const Tensor& from, Device device) {
    const std::int64_t bytes = from.bytes();
    if (from.device().type == DeviceType::cpu) {
        return Storage::uploaded(from.data(), bytes, device);
    }
    auto storage = make_counted<Storage>(bytes, Device{});
    if (bytes > 0) CudaStream::of(from.device().index).read(storage->data(), from.data(), bytes);
    return storage;
}

}  // namespace

Tensor copied_to_device(const Tensor& contiguous, Device device) {
    TEMPRA_CHECK(ShapeError, contiguous.is_contiguous(), "to: needs a contiguous tensor");
    // Between two CUDA devices by way of the host.
    const bool both = contiguous.device().type == device.type && device.type == DeviceType::cuda;
    const Tensor from = both ? copied_to_device(contiguous, Device{}) : contiguous;
    IntrusivePtr<TensorImpl> impl = make_counted<TensorImpl>();
    impl->storage = bytes_on(from, device);
    impl->version = make_counted<VersionCounter>();
    impl->sizes = from.sizes();
    impl->strides = contiguous_strides(from.sizes());
    impl->dtype = from.dtype();
    impl->device = device;
    return TensorAccess::wrap(std::move(impl));
}

}  // namespace tempra
