// Primitive operations: creation, layout, indexing, matrix products, rows, ordering.
#include "array_interop.h"
#include "bindings.h"
#include "tempra/autograd.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/matmul.h"
#include "tempra/ops/normalization.h"
#include "tempra/ops/softmax.h"
#include "tempra/ops/sort.h"

namespace tempra::python {

namespace {

Tensor layer_norm_optional(const Tensor& x, const std::optional<Tensor>& weight,
                           const std::optional<Tensor>& bias, double epsilon) {
    return layer_norm(x, weight.value_or(Tensor()), bias.value_or(Tensor()), epsilon);
}

Tensor rms_norm_optional(const Tensor& x, const std::optional<Tensor>& weight, double epsilon) {
    return rms_norm(x, weight.value_or(Tensor()), epsilon);
}

void bind_creation(py::module_& module) {
    const auto dtype = py::arg("dtype") = DType::f32;
    const auto device = py::arg("device") = "cpu";
    module.def(
        "empty",
        [](const Integers& shape, DType type, const std::string& place) {
            return empty(to_shape(shape), type, device_of_name(place));
        },
        py::arg("shape"), dtype, device, "Uninitialised tensor.");
    module.def(
        "zeros",
        [](const Integers& shape, DType type, const std::string& place) {
            return zeros(to_shape(shape), type, device_of_name(place));
        },
        py::arg("shape"), dtype, device, "Tensor of zeros.");
    module.def(
        "ones",
        [](const Integers& shape, DType type, const std::string& place) {
            return full(to_shape(shape), 1, type, device_of_name(place));
        },
        py::arg("shape"), dtype, device, "Tensor of ones.");
    module.def(
        "full",
        [](const Integers& shape, double value, DType type, const std::string& place) {
            return full(to_shape(shape), value, type, device_of_name(place));
        },
        py::arg("shape"), py::arg("value"), dtype, device,
        "Tensor filled with one value; DtypeError where the dtype cannot hold it.");
    module.def(
        "arange",
        [](double start, std::optional<double> stop, double step, DType type,
           const std::string& place) {
            const Device on = device_of_name(place);
            return stop ? arange(start, *stop, step, type, on) : arange(0, start, step, type, on);
        },
        py::arg("start"), py::arg("stop") = py::none(), py::arg("step") = 1.0,
        py::arg("dtype") = DType::i64, device, "start, start + step, ... below stop.");
    module.def(
        "tensor",
        [](const py::object& data, std::optional<DType> type, const std::string& place) {
            const Device on = device_of_name(place);
            const GradModeGuard off(false);
            return to_device(tensor_from_data(data, type), on);
        },
        py::arg("data"), py::arg("dtype") = py::none(), device,
        "Copy of numbers, nested lists or an array; Python floats become f32. DtypeError for "
        "Python "
        "numbers that an integer dtype cannot hold; arrays are converted as by Tensor.to.");
    module.def("empty_like", &empty_like, py::arg("x"),
               "Uninitialised tensor of the same shape, dtype and device.");
    module.def("zeros_like", &zeros_like, py::arg("x"),
               "Zeros of the same shape, dtype and device.");
}

void bind_layout(py::module_& module) {
    module.def("concatenate", &concatenate, py::arg("tensors"), py::arg("dim") = 0,
               "Tensors joined along an existing dimension.");
    module.def("stack", &stack, py::arg("tensors"), py::arg("dim") = 0,
               "Tensors of one shape joined along a new dimension.");
    module.def(
        "split",
        [](const Tensor& x, const std::vector<std::int64_t>& lengths, std::int64_t dim) {
            return split(x, lengths, dim);
        },
        py::arg("x"), py::arg("lengths"), py::arg("dim") = 0,
        "Views of the given lengths, which add up to the size of the dimension.");
    module.def("gather", &gather, py::arg("x"), py::arg("dim"), py::arg("index"),
               "x[..., index, ...] along dim, as numpy.take_along_axis.");
    module.def("scatter", &scatter, py::arg("x"), py::arg("dim"), py::arg("index"),
               py::arg("source"),
               "Copy of x with source written at index along dim; the last write wins.");
    module.def("scatter_add", &scatter_add, py::arg("x"), py::arg("dim"), py::arg("index"),
               py::arg("source"), "Copy of x with source added at index along dim.");
    module.def("index_select", &index_select, py::arg("x"), py::arg("dim"), py::arg("index"),
               "Slices of x along dim, picked by an index of any shape.");
    module.def("matmul", &matmul, py::arg("a"), py::arg("b"),
               "[..., m, k] @ [..., k, n] with broadcast leading dimensions.");
}

void bind_rows(py::module_& module) {
    const auto dim = py::arg("dim") = -1;
    module.def("softmax", &softmax, py::arg("x"), dim, "exp(x) / sum(exp(x)) along dim.");
    module.def("log_softmax", &log_softmax, py::arg("x"), dim, "x - log(sum(exp(x))) along dim.");
    module.def("layer_norm", &layer_norm_optional, py::arg("x"), py::arg("weight") = py::none(),
               py::arg("bias") = py::none(), py::kw_only(), py::arg("epsilon") = 1e-5,
               "(x - mean) / sqrt(variance + epsilon) * weight + bias over the last dimension.");
    module.def("rms_norm", &rms_norm_optional, py::arg("x"), py::arg("weight") = py::none(),
               py::kw_only(), py::arg("epsilon") = 1e-6,
               "x / sqrt(mean(x^2) + epsilon) * weight over the last dimension.");
    module.def(
        "sort",
        [](const Tensor& x, std::int64_t axis, bool descending) {
            const SortResult result = sort(x, axis, descending);
            return std::make_pair(result.values, result.indices);
        },
        py::arg("x"), dim, py::kw_only(), py::arg("descending") = false,
        "(values, indices) in order along dim; stable, NaN last.");
    module.def(
        "topk",
        [](const Tensor& x, std::int64_t count, std::int64_t axis, bool largest) {
            const SortResult result = topk(x, count, axis, largest);
            return std::make_pair(result.values, result.indices);
        },
        py::arg("x"), py::arg("count"), dim, py::kw_only(), py::arg("largest") = true,
        "(values, indices) of the count largest along dim, in order.");
    module.def("argsort", &argsort, py::arg("x"), dim, py::kw_only(), py::arg("descending") = false,
               "Indices that sort x along dim.");
}

}  // namespace

void bind_ops(py::module_& module) {
    bind_creation(module);
    bind_layout(module);
    bind_rows(module);
}

}  // namespace tempra::python
