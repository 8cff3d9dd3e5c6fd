// DLPack both ways, on the CPU and on CUDA devices, where each side is told the other's stream.
#include <cstdint>
#include <memory>
#include <type_traits>

#include "array_interop.h"
#include "bindings.h"
#include "dlpack.h"
#include "memory/cuda_stream.h"
#include "tempra/error.h"
#include "tempra/ops/layout.h"
#include "tensor/tensor_access.h"

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

// The two layouts, told apart by the names of their capsules.
template <class Managed>
struct CapsuleNames;
template <>
struct CapsuleNames<DLManagedTensor> {
    static constexpr const char* fresh = "dltensor";
    static constexpr const char* used = "used_dltensor";
};
template <>
struct CapsuleNames<DLManagedTensorVersioned> {
    static constexpr const char* fresh = "dltensor_versioned";
    static constexpr const char* used = "used_dltensor_versioned";
};

template <class Managed>
struct ExportedTensor {
    Managed managed{};
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

// The capsule of an object, which is told the stream that we read it on and what we understand.
py::object provided_capsule(const py::object& object) {
    py::dict asked;
    if (py::hasattr(object, "__dlpack_device__")) {
        const auto device = object.attr("__dlpack_device__")().cast<std::pair<int, int>>();
        if (device.first == kDLCUDA) {
            const Device named = device_of_name(format("cuda:{}", device.second));
            asked["stream"] =
                reinterpret_cast<std::uintptr_t>(CudaStream::of(named.index).handle());
        }
    }
    py::dict versioned(**asked, py::arg("max_version") = py::make_tuple(1, 0));
    try {
        return object.attr("__dlpack__")(**versioned);
    } catch (const py::error_already_set& error) {
        // Producers from before version 1.0 do not know the argument.
        if (!error.matches(PyExc_TypeError)) throw;
    }
    return object.attr("__dlpack__")(**asked);
}

Device device_of(const DLDevice& device) {
    TEMPRA_CHECK(DeviceError, device.device_type == kDLCPU || device.device_type == kDLCUDA,
                 "from_dlpack: the tensor is on DLPack device type {}; only memory of the CPU (1) "
                 "and of CUDA devices (2) is supported",
                 static_cast<int>(device.device_type));
    if (device.device_type == kDLCPU) return {};
    return device_of_name(format("cuda:{}", device.device_id));
}

// The tensor of a capsule; a bare one has been told no stream.
template <class Managed>
Tensor taken_over(const py::object& capsule, bool bare) {
    auto* managed =
        static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), CapsuleNames<Managed>::fresh));
    if (managed == nullptr) throw py::error_already_set();
    bool writable = true;
    if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
        TEMPRA_CHECK(FormatError, managed->version.major == 1,
                     "from_dlpack: the memory is described in DLPack {}.{}; only versions 1.x and "
                     "older ones are read",
                     managed->version.major, managed->version.minor);
        writable = (managed->flags & kDLPackFlagReadOnly) == 0;
    }
    const DLTensor& from = managed->dl_tensor;
    const Device device = device_of(from.device);
    if (device.type == DeviceType::cuda && bare) {
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
    PyCapsule_SetName(capsule.ptr(), CapsuleNames<Managed>::used);
    const auto give_back = [managed, device] {
        if (managed->deleter == nullptr) return;
        // Its owner may hand the memory out again at once, on a stream of its own.
        if (device.type == DeviceType::cuda) order_before(device, kDefaultStream);
        managed->deleter(managed);
    };
    return from_memory(data, sizes, strides, name->dtype, give_back, writable, device);
}

// What a consumer gets, but for what only one of the layouts has.
template <class Managed>
std::unique_ptr<ExportedTensor<Managed>> filled(const Tensor& tensor, const py::object& stream) {
    auto exported = std::make_unique<ExportedTensor<Managed>>();
    exported->tensor = tensor;
    const Device device = tensor.device();
    if (device.type == DeviceType::cuda) {
        exported->stream = consumer_stream(stream);
        if (exported->stream != nullptr) CudaStream::of(device.index).let_wait(exported->stream);
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
    exported->managed.deleter = [](Managed* self) {
        auto* const held = static_cast<ExportedTensor<Managed>*>(self->manager_ctx);
        if (held->stream != nullptr) order_after(held->tensor.device(), held->stream);
        delete held;
    };
    return exported;
}

template <class Managed>
py::capsule capsule_of(std::unique_ptr<ExportedTensor<Managed>> exported) {
    return py::capsule(
        &exported.release()->managed, CapsuleNames<Managed>::fresh, [](PyObject* capsule) {
            // A consumer renames the capsule and takes over; otherwise it is ours to free.
            const char* const name = CapsuleNames<Managed>::fresh;
            if (PyCapsule_IsValid(capsule, name) == 0) return;
            auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
            managed->deleter(managed);
        });
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
    if (PyCapsule_IsValid(provided.ptr(), CapsuleNames<DLManagedTensorVersioned>::fresh) != 0) {
        return taken_over<DLManagedTensorVersioned>(provided, provided.is(object));
    }
    return taken_over<DLManagedTensor>(provided, provided.is(object));
}

std::pair<int, int> dlpack_device(const Tensor& tensor) {
    const bool cuda = tensor.device().type == DeviceType::cuda;
    return {cuda ? kDLCUDA : kDLCPU, tensor.device().index};
}

py::capsule to_dlpack(const Tensor& tensor, const DLPackRequest& request) {
    if (!request.device.is_none()) {
        const auto wanted = request.device.cast<std::pair<int, int>>();
        if (wanted != dlpack_device(tensor)) {
            throw py::buffer_error(
                format("__dlpack__: the tensor is on {}, DLPack device ({}, {}) is asked for; move "
                       "it there first",
                       tensor.device(), wanted.first, wanted.second));
        }
    }
    const bool copies = !request.copy.is_none() && request.copy.cast<bool>();
    const Tensor shared = copies ? clone(tensor.detach()) : tensor;
    const bool read_only = !TensorAccess::impl(shared).storage->writable();
    const bool versioned = !request.max_version.is_none() &&
                           request.max_version.cast<std::pair<int, int>>().first >= 1;
    if (!versioned) {
        if (read_only) {
            throw py::buffer_error(
                "__dlpack__: the tensor is read-only, which DLPack can say only from version 1.0 "
                "on; ask with max_version=(1, 0), or pass a copy, as of clone()");
        }
        return capsule_of(filled<DLManagedTensor>(shared, request.stream));
    }
    auto exported = filled<DLManagedTensorVersioned>(shared, request.stream);
    exported->managed.version = {1, 0};
    exported->managed.flags =
        (read_only ? kDLPackFlagReadOnly : 0) | (copies ? kDLPackFlagIsCopied : 0);
    return capsule_of(std::move(exported));
}

}  // namespace tempra::python
