#include "array_interop.h"

#include <pybind11/numpy.h>

#include <cstdint>
#include <memory>
#include <string>

#include "annotations.h"
#include "argument_errors.h"
#include "tempra/autograd.h"
#include "tempra/error.h"
#include "tempra/ops/layout.h"
#include "tensor/dtype_range.h"
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

void check_aligned(const void* data, const Shape& sizes, DType dtype, const char* operation) {
    const auto offset =
        reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(size_of(dtype));
    TEMPRA_CHECK(ShapeError, sizes.numel() == 0 || offset == 0,
                 "{}: the numbers do not lie at multiples of their size in memory; pass a copy, "
                 "such as numpy.array(...)",
                 operation);
}

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

namespace {

constexpr const char* kNumbers = "collections.abc.Sequence[float]";

// The numbers of a list, which nobody has given a dtype yet.
void check_representable(const Tensor& values, DType dtype) {
    if (is_floating(dtype) || dtype == values.dtype()) return;
    const Tensor numbers = cast(values, DType::f64);
    for (std::int64_t i = 0; i < numbers.numel(); ++i) {
        tempra::check_representable("tensor", numbers.data_as<double>()[i], dtype);
    }
}

}  // namespace

Tensor tensor_from_data(const py::object& data, std::optional<DType> dtype) {
    const GradModeGuard off(false);
    if (py::isinstance<Tensor>(data)) {
        const auto source = data.cast<Tensor>();
        return dtype && *dtype != source.dtype() ? cast(source, *dtype) : clone(source);
    }
    const bool typed = py::hasattr(data, "dtype");
    const py::object array = py::module_::import("numpy").attr("array")(data);
    if (!typed && std::string("biuf").find(array.attr("dtype").attr("kind").cast<char>()) ==
                      std::string::npos) {
        throw py::type_error("tensor: data: " + described(misfit(kNumbers, data)) +
                             " given; needs numbers, nested lists of numbers or an array");
    }
    const Tensor values = from_numpy(array);
    const DType natural = !typed && values.dtype() == DType::f64 ? DType::f32 : values.dtype();
    const DType wanted = dtype.value_or(natural);
    if (!typed) check_representable(values, wanted);
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

}  // namespace tempra::python
