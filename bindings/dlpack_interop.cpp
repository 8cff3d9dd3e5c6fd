// DLPack both ways, on the CPU and on CUDA devices, where each side is told the other's stream.
#include <cstdint>
#include <memory>

#include "array_interop.h"
#include "bindings.h"
#include "dlpack.h"
#include "memory/cuda_stream.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

struct DLPackName {
    DType dtype;
    DLDataTypeCode code;
    int bits;
};
constexpr DLPackName kDLPackNames[] = {{DType::f32, kDLFloat, 32}, {DType::f16, kDLFloat, 16},
                                       {DType::f64, kDLFloat, 64}, {DType::bf16, kDLBfloat, 16},
                                       {DType::i64, kDLInt, 64},   {DType::i32, kDLInt, 32},
                                       {DType::u32, kDLUInt, 32},  {DType::u16, kDLUInt, 16},
                                       {DType::u8, kDLUInt, 8},    {DType::boolean, kDLBool, 8}};

// The legacy default stream: what DLPack means by no stream, and what other libraries use unless
// told otherwise.
void* const kDefaultStream = reinterpret_cast<void*>(std::uintptr_t{1});

struct ExportedTensor {
    DLManagedTensor managed{};
    Tensor tensor;
    void* stream = nullptr;  // the consumer's; null on the CPU
    std::int64_t sizes[kMaxDimensions] = {};
    std::int64_t strides[kMaxDimensions] = {};
};

// What runs on our stream from here on runs behind what is on `other`, or the other way round.
// At the end of a process or in a forked one there is nothing to order.
void order_after(const Device& device, void* other) noexcept try {
    CudaStream::of(device.index).wait_for(other);
} catch (...) {
}
void order_before(const Device& device, void* other) noexcept try {
    CudaStream::of(device.index).let_wait(other);
} catch (...) {
}

// Null: the consumer wants no ordering (-1).
void* consumer_stream(const py::object& stream) {
    if (stream.is_none()) return kDefaultStream;
    const auto number = stream.cast<std::int64_t>();
    TEMPRA_CHECK(
        DeviceError, number != 0 && number >= -1,
        "__dlpack__: stream {} given; needs 1 (legacy default), 2 (per thread), a stream's "
        "address, or -1",
        number);
    return number == -1 ? nullptr : reinterpret_cast<void*>(static_cast<std::uintptr_t>(number));
}

// The capsule of an object, which is told the stream that we read it on.
py::object provided_capsule(const py::object& object) {
    if (py::hasattr(object, "__dlpack_device__")) {
        const auto device = object.attr("__dlpack_device__")().cast<std::pair<int, int>>();
        if (device.first == kDLCUDA) {
            const Device named = device_of_name(format("cuda:{}", device.second));
            const auto stream =
                reinterpret_cast<std::uintptr_t>(CudaStream::of(named.index).handle());
            return object.attr("__dlpack__")(py::arg("stream") = stream);
        }
    }
    return object.attr("__dlpack__")();
}

Device device_of(const DLDevice& device) {
    TEMPRA_CHECK(DeviceError, device.device_type == kDLCPU || device.device_type == kDLCUDA,
                 "from_dlpack: the tensor is on DLPack device type {}; only memory of the CPU (1) "
                 "and of CUDA devices (2) is supported",
                 static_cast<int>(device.device_type));
    if (device.device_type == kDLCPU) return {};
    return device_of_name(format("cuda:{}", device.device_id));
}

}  // namespace

Tensor from_dlpack(const py::object& object) {
    py::object provided = object;
    if (!PyCapsule_CheckExact(object.ptr())) {
        if (!py::hasattr(object, "__dlpack__")) {
            throw py::type_error("from_dlpack: needs an object with __dlpack__, got " +
                                 py::type::of(object).attr("__name__").cast<std::string>());
        }
        provided = provided_capsule(object);
    }
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(provided.ptr(), "dltensor"));
    if (managed == nullptr) throw py::error_already_set();
    const DLTensor& from = managed->dl_tensor;
    const Device device = device_of(from.device);
    // A bare capsule has been told no stream.
    if (device.type == DeviceType::cuda && provided.is(object)) {
        CudaStream::of(device.index).wait_for(kDefaultStream);
    }
    const DLPackName* name = nullptr;
    for (const DLPackName& entry : kDLPackNames) {
        if (from.dtype.code == entry.code && from.dtype.bits == entry.bits &&
            from.dtype.lanes == 1) {
            name = &entry;
        }
    }
    TEMPRA_CHECK(DtypeError, name != nullptr,
                 "from_dlpack: type code {} with {} bits is not supported",
                 static_cast<int>(from.dtype.code), static_cast<int>(from.dtype.bits));
    const Shape sizes(std::span(from.shape, static_cast<size_t>(from.ndim)));
    Strides strides = contiguous_strides(sizes);
    for (int i = 0; from.strides != nullptr && i < from.ndim; ++i) {
        TEMPRA_CHECK(ShapeError, from.strides[i] >= 0,
                     "from_dlpack: negative strides are not supported");
        strides[i] = from.strides[i];
    }
    char* data = static_cast<char*>(from.data) + from.byte_offset;
    check_aligned(data, sizes, name->dtype, "from_dlpack");
    PyCapsule_SetName(provided.ptr(), "used_dltensor");
    const auto give_back = [managed, device] {
        if (managed->deleter == nullptr) return;
        // Its owner may hand the memory out again at once, on a stream of its own.
        if (device.type == DeviceType::cuda) order_before(device, kDefaultStream);
        managed->deleter(managed);
    };
    return from_memory(data, sizes, strides, name->dtype, give_back, true, device);
}

std::pair<int, int> dlpack_device(const Tensor& tensor) {
    const bool cuda = tensor.device().type == DeviceType::cuda;
    return {cuda ? kDLCUDA : kDLCPU, tensor.device().index};
}

py::capsule to_dlpack(const Tensor& tensor, const py::object& stream) {
    auto exported = std::make_unique<ExportedTensor>();
    exported->tensor = tensor;
    const Device device = tensor.device();
    if (device.type == DeviceType::cuda) {
        exported->stream = consumer_stream(stream);
        if (exported->stream != nullptr) {
            CudaStream::of(device.index).let_wait(exported->stream);
        }
    }
    DLTensor& to = exported->managed.dl_tensor;
    for (int i = 0; i < tensor.dimensions(); ++i) {
        exported->sizes[i] = tensor.sizes()[i];
        exported->strides[i] = tensor.strides()[i];
    }
    to.data = tensor.data();
    to.device = {device.type == DeviceType::cuda ? kDLCUDA : kDLCPU, device.index};
    to.ndim = tensor.dimensions();
    to.shape = exported->sizes;
    to.strides = exported->strides;
    to.byte_offset = 0;
    for (const DLPackName& entry : kDLPackNames) {
        if (entry.dtype == tensor.dtype()) {
            to.dtype = {static_cast<std::uint8_t>(entry.code),
                        static_cast<std::uint8_t>(entry.bits), 1};
        }
    }
    exported->managed.manager_ctx = exported.get();
    exported->managed.deleter = [](DLManagedTensor* self) {
        auto* const held = static_cast<ExportedTensor*>(self->manager_ctx);
        if (held->stream != nullptr) order_after(held->tensor.device(), held->stream);
        delete held;
    };
    return py::capsule(&exported.release()->managed, "dltensor", [](PyObject* capsule) {
        // A consumer renames the capsule and takes over; otherwise it is ours to free.
        if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
        auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
        managed->deleter(managed);
    });
}

}  // namespace tempra::python
