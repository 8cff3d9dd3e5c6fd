// Reductions, as functions and as methods of Tensor.
#include "bindings.h"
#include "tempra/ops/reduce.h"
#include "tempra/ops/softmax.h"

namespace tempra::python {

namespace {

using Reduction = Tensor (*)(const Tensor&, std::span<const std::int64_t>, bool);

template <Reduction reduction>
Tensor reduce(const Tensor& x, const std::optional<Integers>& dim, bool keepdim) {
    const std::vector<std::int64_t> dimensions = to_dimensions(dim);
    // An explicit empty tuple reduces nothing.
    if (dim && dimensions.empty()) return x;
    return reduction(x, dimensions, keepdim);
}

template <Reduction reduction>
void bind_reduction(py::module_& module, py::class_<Tensor>& tensor, const char* name,
                    const char* doc) {
    const auto dim = py::arg("dim") = py::none();
    const auto keepdim = py::arg("keepdim") = false;
    module.def(name, &reduce<reduction>, py::arg("x"), dim, keepdim, doc);
    tensor.def(name, &reduce<reduction>, dim, keepdim, doc);
}

}  // namespace

void bind_reductions(py::module_& module) {
    auto tensor = py::reinterpret_borrow<py::class_<Tensor>>(module.attr("Tensor"));
    bind_reduction<sum>(module, tensor, "sum", "Sum over dim (all by default).");
    bind_reduction<mean>(module, tensor, "mean", "Mean over dim (all by default).");
    bind_reduction<product>(module, tensor, "prod", "Product over dim (all by default).");
    bind_reduction<maximum_of>(module, tensor, "max", "Largest over dim (all by default).");
    bind_reduction<minimum_of>(module, tensor, "min", "Smallest over dim (all by default).");
    bind_reduction<log_sum_exp>(module, tensor, "log_sum_exp",
                                "log(sum(exp(x))) over dim (all by default).");

    const auto x = py::arg("x");
    const auto dim = py::arg("dim");
    const auto keepdim = py::arg("keepdim") = false;
    const auto reverse = py::arg("reverse") = false;
    module.def("argmax", &argmax, x, dim, keepdim, "Index (i64) of the first largest along dim.");
    module.def("argmin", &argmin, x, dim, keepdim, "Index (i64) of the first smallest along dim.");
    module.def("cumsum", &cumulative_sum, x, dim, reverse,
               "Running sum along dim; reverse=True sums from the end.");
    tensor.def("argmax", &argmax, dim, keepdim, "Index (i64) of the first largest along dim.")
        .def("argmin", &argmin, dim, keepdim, "Index (i64) of the first smallest along dim.")
        .def("cumsum", &cumulative_sum, dim, reverse, "Running sum along dim.");
}

}  // namespace tempra::python
