// DType and Tensor: attributes, conversions, indexing, operators.
#include "annotations.h"
#include "argument_errors.h"
#include "array_interop.h"
#include "bindings.h"
#include "tempra/autograd.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/matmul.h"

namespace tempra::python {

Shape to_shape(const Integers& sizes) {
    if (const auto* one = std::get_if<std::int64_t>(&sizes)) return {*one};
    Shape shape;
    for (const std::int64_t size : std::get<1>(sizes)) shape.push_back(size);
    return shape;
}

std::vector<std::int64_t> to_dimensions(const std::optional<Integers>& dimensions) {
    if (!dimensions) return {};
    if (const auto* one = std::get_if<std::int64_t>(&*dimensions)) return {*one};
    return std::get<1>(*dimensions);
}

py::tuple to_tuple(const Shape& shape) {
    py::tuple result(shape.dimensions());
    for (int i = 0; i < shape.dimensions(); ++i) result[i] = shape[i];
    return result;
}

std::string type_name(const py::handle& value) {
    return py::type::of(value).attr("__name__").cast<std::string>();
}

namespace {

std::optional<double> to_number(const py::object& value) {
    py::detail::make_caster<double> number;
    if (!number.load(value, true)) return std::nullopt;
    return py::detail::cast_op<double>(number);
}

}  // namespace

Tensor to_operand(const Operand& value, const Tensor& like) {
    if (const auto* number = std::get_if<double>(&value)) return scalar_like(like, *number);
    return std::get<Tensor>(value);
}

namespace {

// Sizes given as separate ints or as one sequence.
Shape sizes_from_arguments(const char* operation, const py::args& sizes) {
    const auto given = sizes.size() == 1 ? py::object(sizes[0]) : py::object(sizes);
    py::detail::make_caster<Integers> integers;
    if (integers.load(given, true)) return to_shape(py::detail::cast_op<Integers>(integers));
    throw py::type_error(format("{}: sizes: {} given; needs integers or one sequence of integers",
                                operation,
                                described(misfit("collections.abc.Sequence[int]", given))));
}

using Binary = Tensor (*)(const Tensor&, const Tensor&);

bool is_operand(const py::object& value) {
    if (py::isinstance<py::array>(value) && value.cast<py::array>().ndim() > 0) {
        // NumPy would answer with an array, outside of every gradient.
        throw py::type_error(
            "operand: ndarray given; needs a Tensor or a number; use tempra.tensor");
    }
    return py::isinstance<Tensor>(value) || to_number(value).has_value();
}

// NotImplemented lets Python ask the other side, and answer x == None with False.
template <Binary operation>
py::object forward_operator(const Tensor& self, const py::object& other) {
    if (!is_operand(other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    return py::cast(operation(self, to_operand(other.cast<Operand>(), self)));
}
template <Binary operation>
py::object reflected_operator(const Tensor& self, const py::object& other) {
    if (!is_operand(other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    return py::cast(operation(to_operand(other.cast<Operand>(), self), self));
}

void bind_dtype(py::module_& module) {
    py::enum_<DType> dtype(module, "DType", "Element type of a tensor.");
    for (const DType value : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64,
                              DType::i32, DType::u32, DType::u16, DType::u8, DType::boolean}) {
        dtype.value(value == DType::boolean ? "boolean" : name_of(value), value);
    }
    dtype.def_property_readonly(
        "itemsize", [](DType self) { return size_of(self); }, "Bytes of an element.");
    dtype.def(py::init([](const std::string& name) { return dtype_of_name(name); }),
              py::arg("name"));
}

// Reading from a device waits for all that was put on it, during which other threads may run.
template <class Read>
auto without_gil_on_device(const Tensor& x, const Read& read) {
    std::optional<py::gil_scoped_release> release;
    if (x.device().type == DeviceType::cuda) release.emplace();
    return read();
}
double number_of(const Tensor& x) {
    return without_gil_on_device(x, [&] { return x.item(); });
}
Tensor fetched(const Tensor& x) {
    return without_gil_on_device(x, [&] { return to_device(x.detach(), {}); });
}

py::object item_of(const Tensor& x) {
    if (is_floating(x.dtype())) return py::float_(number_of(x));
    if (x.dtype() == DType::boolean) return py::bool_(number_of(x) != 0);
    TEMPRA_CHECK(ShapeError, x.numel() == 1, "item: needs exactly one element, got shape {}",
                 x.sizes());
    return py::int_(cast(fetched(x), DType::i64).data_as<std::int64_t>()[0]);
}

void bind_attributes(py::class_<Tensor>& tensor) {
    tensor.def_property_readonly("shape", [](const Tensor& x) { return to_tuple(x.sizes()); })
        .def_property_readonly(
            "strides", [](const Tensor& x) { return to_tuple(x.strides()); },
            "Steps between elements, counted in elements.")
        .def_property_readonly("dtype", &Tensor::dtype)
        .def_property_readonly("device", [](const Tensor& x) { return format("{}", x.device()); })
        .def_property_readonly("ndim", &Tensor::dimensions)
        .def_property_readonly("nbytes", &Tensor::bytes)
        .def_property_readonly("is_leaf", &Tensor::is_leaf)
        .def_property_readonly("is_contiguous", &Tensor::is_contiguous)
        .def_property_readonly("version", &Tensor::version)
        .def_property_readonly(
            "data_pointer",
            [](const Tensor& x) { return reinterpret_cast<std::uintptr_t>(x.data()); })
        .def_property("requires_grad", &Tensor::requires_grad,
                      [](Tensor& x, bool value) { x.set_requires_grad(value); })
        .def_property(
            "grad",
            [](const Tensor& x) -> std::optional<Tensor> {
                return x.grad().defined() ? std::optional(x.grad()) : std::nullopt;
            },
            [](Tensor& x, const std::optional<Tensor>& gradient) {
                x.set_grad(gradient.value_or(Tensor()));
            })
        .def("numel", &Tensor::numel)
        .def("size", &Tensor::size, py::arg("dim"))
        .def("item", &item_of)
        .def("__len__",
             [](const Tensor& x) {
                 TEMPRA_CHECK(ShapeError, x.dimensions() > 0, "len: a 0-d tensor has no length");
                 return x.size(0);
             })
        .def("__bool__", [](const Tensor& x) { return number_of(x) != 0; })
        .def("__float__", &number_of)
        .def("__int__", [](const Tensor& x) { return py::int_(item_of(x)); })
        .def("__repr__", [](const Tensor& x) { return to_string(x); });
    tensor.attr("__hash__") = py::cpp_function(
        [](const Tensor& x) { return reinterpret_cast<std::intptr_t>(x.identity()); },
        py::is_method(tensor));
}

// `name` is that of a device, or of a dtype, as in x.to("bf16").
Tensor to_named(const Tensor& x, const std::string& name, const std::optional<DType>& dtype) {
    if (name != "cpu" && !name.starts_with("cuda")) {
        TEMPRA_CHECK(
            DtypeError, !dtype.has_value(),
            "to: {} is no device and a dtype is given beside it; needs cpu, cuda or cuda:N", name);
        return cast(x, dtype_of_name(name));
    }
    const Device device = device_of_name(name);
    // The fewer bytes travel.
    const DType wanted = dtype.value_or(x.dtype());
    const auto move = [&] {
        return size_of(wanted) > size_of(x.dtype()) ? cast(to_device(x, device), wanted)
                                                    : to_device(cast(x, wanted), device);
    };
    // Only the way back waits; page-locked buffers of the way there are one thread's at a time.
    return device.type == DeviceType::cpu ? without_gil_on_device(x, move) : move();
}

void bind_conversions(py::class_<Tensor>& tensor) {
    tensor.def("numpy", &to_numpy, "NumPy array that shares this tensor's memory.")
        .def(
            "__array__",
            [](const Tensor& x, const py::object& dtype, const py::object& /*copy*/) {
                const py::object array = to_numpy(x);
                return dtype.is_none() ? array : array.attr("astype")(dtype);
            },
            py::arg("dtype") = py::none(), py::arg("copy") = py::none())
        .def("tolist",
             [](const Tensor& x) {
                 const Tensor here = fetched(x);
                 return to_numpy(x.dtype() == DType::bf16 ? cast(here, DType::f32) : here)
                     .attr("tolist")();
             })
        .def(
            "__dlpack__",
            [](const Tensor& x, const py::object& stream, const py::object& max_version,
               const py::object& device, const py::object& copy) {
                try {
                    return to_dlpack(x, {stream, max_version, device, copy});
                } catch (const py::cast_error&) {
                    throw py::type_error(
                        "__dlpack__: max_version needs (major, minor), dl_device (type, index), "
                        "copy True, False or None");
                }
            },
            py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
            py::arg("dl_device") = py::none(), py::arg("copy") = py::none(),
            "Capsule that shares the memory; `stream` is the consumer's, which then waits for it. "
            "BufferError for read-only memory where max_version is below (1, 0).")
        .def("__dlpack_device__", &dlpack_device)
        .def(
            "requires_grad_", [](Tensor& x, bool value) { return x.set_requires_grad(value); },
            py::arg("value") = true)
        .def(
            "backward",
            [](const Tensor& x, const std::optional<Tensor>& gradient, bool retain_graph) {
                const py::gil_scoped_release release;
                backward(x, gradient.value_or(Tensor()), retain_graph);
            },
            py::arg("gradient") = py::none(), py::kw_only(), py::arg("retain_graph") = false)
        .def("detach", &Tensor::detach)
        .def("clone", &clone)
        .def("contiguous", &contiguous)
        .def("to", &cast, py::arg("dtype"),
             "The same numbers in another dtype, as NumPy's astype: to integers a fraction is cut "
             "off, and what they cannot hold (nan, out of range) becomes some integer.")
        .def("to", &to_named, py::arg("device"), py::arg("dtype") = py::none(),
             "The same numbers on another device: cpu, cuda or cuda:N.")
        .def(
            "cpu", [](const Tensor& x) { return to_named(x, "cpu", std::nullopt); },
            "The tensor on the CPU.")
        .def(
            "cuda",
            [](const Tensor& x, int index) {
                return to_device(x, device_of_name(format("cuda:{}", index)));
            },
            py::arg("index") = 0, "The tensor on a CUDA device.")
        .def(
            "move_",
            [](const Tensor& x, const std::string& device) {
                move_({x}, device_of_name(device));
                return x;
            },
            py::arg("device"), "Moves a leaf, with its gradient; every handle of it follows.")
        .def(
            "copy_",
            [](const Tensor& x, const Tensor& source) {
                copy_(x, source);
                return x;
            },
            py::arg("source"))
        .def(
            "fill_",
            [](const Tensor& x, double value) {
                fill_(x, value);
                return x;
            },
            py::arg("value"))
        .def("zero_", [](const Tensor& x) {
            fill_(x, 0);
            return x;
        });
}

void bind_views(py::class_<Tensor>& tensor) {
    tensor
        .def("reshape",
             [](const Tensor& x, const py::args& sizes) {
                 return reshape(x, sizes_from_arguments("reshape", sizes));
             })
        .def("view",
             [](const Tensor& x, const py::args& sizes) {
                 const Tensor result = reshape(x, sizes_from_arguments("view", sizes));
                 TEMPRA_CHECK(ShapeError, result.numel() == 0 || result.data() == x.data(),
                              "view: shape {} with strides {} cannot be seen as {} without a copy; "
                              "use reshape",
                              x.sizes(), x.strides(), result.sizes());
                 return result;
             })
        .def("expand",
             [](const Tensor& x, const py::args& sizes) {
                 return expand(x, sizes_from_arguments("expand", sizes));
             })
        .def("permute",
             [](const Tensor& x, const py::args& order) {
                 const Shape dimensions = sizes_from_arguments("permute", order);
                 return permute(x, std::span(dimensions.begin(),
                                             static_cast<size_t>(dimensions.dimensions())));
             })
        .def("transpose", &transpose, py::arg("dim0"), py::arg("dim1"))
        .def_property_readonly("T",
                               [](const Tensor& x) {
                                   TEMPRA_CHECK(ShapeError, x.dimensions() == 2,
                                                "T: needs 2 dimensions, got shape {}", x.sizes());
                                   return transpose(x, 0, 1);
                               })
        .def("narrow", &narrow, py::arg("dim"), py::arg("start"), py::arg("length"))
        .def("squeeze", &squeeze, py::arg("dim"))
        .def("unsqueeze", &unsqueeze, py::arg("dim"))
        .def("__getitem__", &get_item);
}

void bind_operators(py::class_<Tensor>& tensor) {
    const auto other = py::arg("other");
    tensor.def("__add__", &forward_operator<add>)
        .def("__radd__", &reflected_operator<add>)
        .def("__sub__", &forward_operator<subtract>)
        .def("__rsub__", &reflected_operator<subtract>)
        .def("__mul__", &forward_operator<multiply>)
        .def("__rmul__", &reflected_operator<multiply>)
        .def("__truediv__", &forward_operator<divide>)
        .def("__rtruediv__", &reflected_operator<divide>)
        .def("__pow__", &forward_operator<power>)
        .def("__rpow__", &reflected_operator<power>)
        .def("__eq__", &forward_operator<equal>)
        .def("__ne__", &forward_operator<not_equal>)
        .def("__lt__", &forward_operator<less>)
        .def("__le__", &forward_operator<less_equal>)
        .def("__gt__", &forward_operator<greater>)
        .def("__ge__", &forward_operator<greater_equal>)
        .def("__and__", &logical_and, other)
        .def("__or__", &logical_or, other)
        .def("__xor__", &logical_xor, other)
        .def("__invert__", &logical_not)
        .def("__neg__", &negative)
        .def("__abs__", &absolute)
        .def("__matmul__", &matmul, other);
}

}  // namespace

DType dtype_of_name(const std::string& name) {
    constexpr std::pair<const char*, DType> kLongNames[] = {
        {"float32", DType::f32}, {"bfloat16", DType::bf16}, {"float16", DType::f16},
        {"float64", DType::f64}, {"int64", DType::i64},     {"int32", DType::i32},
        {"uint32", DType::u32},  {"uint16", DType::u16},    {"uint8", DType::u8}};
    for (const auto& [long_name, dtype] : kLongNames) {
        if (name == long_name || name == name_of(dtype)) return dtype;
    }
    if (name == name_of(DType::boolean)) return DType::boolean;
    throw DtypeError(
        format("dtype: '{}' is not a dtype; choose float32, bfloat16, float16, float64, int64, "
               "int32, uint32, uint16, uint8 or bool",
               name));
}

void bind_tensor(py::module_& module) {
    bind_dtype(module);
    py::class_<Tensor> tensor(
        module, "Tensor",
        "Values of one dtype in a strided layout; copies of the handle share them.");
    tensor.def(py::init<const Tensor&>(), py::arg("other"), "Another handle of the same tensor.");
    bind_attributes(tensor);
    bind_conversions(tensor);
    bind_views(tensor);
    bind_operators(tensor);
    module.def("from_numpy", &from_numpy, py::arg("array"),
               "Tensor that shares a NumPy array's memory.");
    module.def(
        "move_",
        [](const std::vector<Tensor>& tensors, const std::string& device) {
            move_(tensors, device_of_name(device));
        },
        py::arg("tensors"), py::arg("device"),
        "Moves leaves, with their gradients: all of them, or none and raises.");
    module.def("from_dlpack", &from_dlpack, py::arg("object"),
               "Tensor that shares a DLPack object's memory.");
}

}  // namespace tempra::python
