#include "tempra/tensor.h"

#include <utility>

#include "memory/cuda_stream.h"
#include "tempra/error.h"
#include "tensor/tensor_access.h"

namespace tempra {

namespace {

TensorImpl& checked(const Tensor& tensor) {
    TEMPRA_CHECK(Error, tensor.defined(), "tensor: an undefined tensor was used");
    return TensorAccess::impl(tensor);
}

}  // namespace

// Defined here, where TensorImpl is complete.
Tensor::Tensor() noexcept = default;
Tensor::Tensor(const Tensor& other) noexcept = default;
Tensor::Tensor(Tensor&& other) noexcept = default;
Tensor& Tensor::operator=(const Tensor& other) noexcept = default;
Tensor& Tensor::operator=(Tensor&& other) noexcept = default;
Tensor::~Tensor() = default;

const Shape& Tensor::sizes() const { return checked(*this).sizes; }
const Strides& Tensor::strides() const { return checked(*this).strides; }
int Tensor::dimensions() const { return checked(*this).sizes.dimensions(); }
std::int64_t Tensor::size(std::int64_t dimension) const {
    const TensorImpl& self = checked(*this);
    return self.sizes[normalize_dimension("size", dimension, self.sizes.dimensions())];
}
std::int64_t Tensor::numel() const { return checked(*this).sizes.numel(); }
std::int64_t Tensor::bytes() const { return numel() * size_of(dtype()); }
DType Tensor::dtype() const { return checked(*this).dtype; }
Device Tensor::device() const { return checked(*this).device; }
bool Tensor::is_contiguous() const { return view().is_contiguous(); }

void* Tensor::data() const {
    const TensorImpl& self = checked(*this);
    return static_cast<char*>(self.storage->data()) + self.offset * size_of(self.dtype);
}

TensorView Tensor::view() const {
    TensorView view;
    if (!defined()) return view;
    const TensorImpl& self = TensorAccess::impl(*this);
    view.data = data();
    view.dimensions = self.sizes.dimensions();
    for (int i = 0; i < view.dimensions; ++i) {
        view.sizes[i] = self.sizes[i];
        view.strides[i] = self.strides[i];
    }
    view.dtype = self.dtype;
    view.device = self.device;
    return view;
}

double Tensor::item() const {
    TEMPRA_CHECK(ShapeError, numel() == 1, "item: needs exactly one element, got shape {}",
                 sizes());
    const void* p = data();
    std::int64_t fetched = 0;  // room for an element of any dtype
    if (device().type == DeviceType::cuda) {
        CudaStream::of(device().index).read(&fetched, p, size_of(dtype()));
        p = &fetched;
    }
    switch (dtype()) {
        case DType::f32: return *static_cast<const float*>(p);
        case DType::bf16: return static_cast<const bfloat16*>(p)->to_float();
        case DType::f16: return static_cast<const float16*>(p)->to_float();
        case DType::f64: return *static_cast<const double*>(p);
        case DType::i64: return static_cast<double>(*static_cast<const std::int64_t*>(p));
        case DType::i32: return *static_cast<const std::int32_t*>(p);
        case DType::u32: return *static_cast<const std::uint32_t*>(p);
        case DType::u16: return *static_cast<const std::uint16_t*>(p);
        case DType::u8:
        case DType::boolean: return *static_cast<const std::uint8_t*>(p);
    }
    return 0;
}

Tensor Tensor::detach() const {
    const TensorImpl& self = checked(*this);
    return TensorAccess::alias(*this, self.sizes, self.strides, self.offset);
}

const void* Tensor::identity() const noexcept { return impl_.get(); }
std::uint64_t Tensor::version() const { return checked(*this).version->value; }
void Tensor::bump_version() { ++checked(*this).version->value; }

Tensor TensorAccess::alias(const Tensor& base, const Shape& sizes, const Strides& strides,
                           std::int64_t offset) {
    const TensorImpl& from = *base.impl_;
    IntrusivePtr<TensorImpl> impl = make_counted<TensorImpl>();
    impl->storage = from.storage;
    impl->version = from.version;
    impl->sizes = sizes;
    impl->strides = strides;
    impl->offset = offset;
    impl->dtype = from.dtype;
    impl->device = from.device;
    return wrap(std::move(impl));
}

void TensorAccess::rebind(const Tensor& target, const IntrusivePtr<Storage>& storage,
                          std::int64_t offset) {
    TensorImpl& self = *target.impl_;
    self.storage = storage;
    self.device = storage->device();
    self.offset = offset;
    self.strides = contiguous_strides(self.sizes);
}

Tensor from_memory(void* data, const Shape& sizes, const Strides& strides, DType dtype,
                   std::function<void()> release, bool writable, Device device) {
    IntrusivePtr<TensorImpl> impl = make_counted<TensorImpl>();
    impl->storage = make_counted<Storage>(data, sizes.numel() * size_of(dtype), std::move(release),
                                          writable, device);
    impl->device = device;
    impl->version = make_counted<VersionCounter>();
    impl->sizes = sizes;
    impl->strides = strides;
    impl->dtype = dtype;
    return TensorAccess::wrap(std::move(impl));
}

}  // namespace tempra
