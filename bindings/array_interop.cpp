#include "array_interop.h"

#include <pybind11/numpy.h>

#include <cstdint>
#include <memory>
#include <string>

#include "bindings.h"
#include "dlpack.h"
#include "memory/cuda_stream.h"
#include "tempra/autograd.h"
#include "tempra/error.h"
#include "tempra/ops/layout.h"
#include "tensor/tensor_access.h"

namespace tempra::python {

namespace {

struct NumpyName {
    DType dtype;
    const char* name;
};
constexpr NumpyName kNumpyNames[] = {{DType::f32, "float32"},  {DType::f16, "float16"},
                                     {DType::f64, "float64"},  {DType::i64, "int64"},
                                     {DType::i32, "int32"},    {DType::u32, "uint32"},
                                     {DType::u16, "uint16"},   {DType::u8, "uint8"},
                                     {DType::boolean, "bool"}, {DType::bf16, "bfloat16"}};

DType dtype_from_numpy(const py::object& dtype) {
    const auto name = dtype.attr("name").cast<std::string>();
    for (const NumpyName& entry : kNumpyNames) {
        if (name == entry.name) return entry.dtype;
    }
    throw DtypeError(
        format("from_numpy: NumPy dtype {} has no tensor dtype; supported are float16, "
               "float32, float64, int64, int32, uint32, uint16, uint8, bool and "
               "ml_dtypes.bfloat16",
               name));
}

py::dtype dtype_to_numpy(DType dtype) {
    if (dtype == DType::bf16) {
        try {
            return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
        } catch (py::error_already_set& error) {
            if (!error.matches(PyExc_ImportError)) throw;
            throw py::type_error(
                "numpy: NumPy has no bfloat16; convert with .to(tempra.float32) first, or install "
                "ml_dtypes");
        }
    }
    for (const NumpyName& entry : kNumpyNames) {
        if (entry.dtype == dtype) return py::dtype(entry.name);
    }
    throw DtypeError(format("numpy: dtype {} has no NumPy dtype", dtype));
}

// As views into the middle of packed records are not.
void check_aligned(const void* data, const Shape& sizes, DType dtype, const char* operation) {
    const auto offset =
        reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(size_of(dtype));
    TEMPRA_CHECK(ShapeError, sizes.numel() == 0 || offset == 0,
                 "{}: the numbers do not lie at multiples of their size in memory; pass a copy, "
                 "such as numpy.array(...)",
                 operation);
}

// Gives up a Python reference from whichever thread drops the last tensor.
std::function<void()> release_later(py::object object) {
    PyObject* held = object.release().ptr();
    return [held] {
        if (Py_IsInitialized() == 0) return;
        const py::gil_scoped_acquire gil;
        Py_DECREF(held);
    };
}

}  // namespace

Tensor from_numpy(const py::object& object) {
    if (!py::isinstance<py::array>(object)) {
        throw py::type_error("from_numpy: needs a numpy.ndarray, got " +
                             py::type::of(object).attr("__name__").cast<std::string>());
    }
    auto array = py::reinterpret_borrow<py::array>(object);
    const DType dtype = dtype_from_numpy(array.dtype());
    TEMPRA_CHECK(DtypeError, array.dtype().attr("isnative").cast<bool>(),
                 "from_numpy: the array's bytes are swapped; convert it with .astype(native)");
    Shape sizes;
    Strides strides;
    const std::int64_t item = size_of(dtype);
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
        sizes.push_back(array.shape(i));
        const std::int64_t stride = array.strides(i);
        TEMPRA_CHECK(
            ShapeError, stride >= 0 || array.shape(i) <= 1,
            "from_numpy: negative strides are not supported; pass numpy.ascontiguousarray(...)");
        TEMPRA_CHECK(
            ShapeError, stride % item == 0,
            "from_numpy: strides are not whole elements; pass numpy.ascontiguousarray(...)");
        strides.push_back(stride >= 0 ? stride / item : 1);
    }
    void* data = const_cast<void*>(array.data());
    check_aligned(data, sizes, dtype, "from_numpy");
    const bool writable = array.writeable();
    return from_memory(data, sizes, strides, dtype, release_later(array), writable);
}

Tensor tensor_from_data(const py::object& data, std::optional<DType> dtype) {
    const GradModeGuard off(false);
    if (py::isinstance<Tensor>(data)) {
        const auto source = data.cast<Tensor>();
        return dtype && *dtype != source.dtype() ? cast(source, *dtype) : clone(source);
    }
    const bool typed = py::hasattr(data, "dtype");
    const py::object array = py::module_::import("numpy").attr("array")(data);
    const Tensor values = from_numpy(array);
    const DType natural = !typed && values.dtype() == DType::f64 ? DType::f32 : values.dtype();
    const DType wanted = dtype.value_or(natural);
    return wanted == values.dtype() ? clone(values) : cast(values, wanted);
}

py::object to_numpy(const Tensor& tensor) {
    TEMPRA_CHECK(
        DeviceError, tensor.device().type == DeviceType::cpu,
        "numpy: the tensor is on {}, where NumPy cannot read it; copy it with .cpu() first",
        tensor.device());
    const py::dtype dtype = dtype_to_numpy(tensor.dtype());
    std::vector<py::ssize_t> sizes;
    std::vector<py::ssize_t> strides;
    for (int i = 0; i < tensor.dimensions(); ++i) {
        sizes.push_back(tensor.size(i));
        strides.push_back(tensor.strides()[i] * size_of(tensor.dtype()));
    }
    auto owner = std::make_unique<Tensor>(tensor);
    const py::capsule base(owner.get(), [](void* held) { delete static_cast<Tensor*>(held); });
    (void)owner.release();
    py::array array(dtype, sizes, strides, tensor.data(), base);
    if (!TensorAccess::impl(tensor).storage->writable()) {
        py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    }
    return array;
}

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
