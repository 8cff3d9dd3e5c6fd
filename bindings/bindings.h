// What the binding files share: the tensor caster's includes and one bind function per file.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "tempra/shape.h"
#include "tempra/tensor.h"

namespace tempra::python {

namespace py = pybind11;

void bind_errors(py::module_& module);
void bind_tensor(py::module_& module);
void bind_elementwise(py::module_& module);
void bind_ops(py::module_& module);
void bind_reductions(py::module_& module);
void bind_random(py::module_& module);
void bind_fused(py::module_& module);
void bind_autograd(py::module_& module);
void bind_optim(py::module_& module);
void bind_gradient_clipping(py::module_& module);
void bind_runtime(py::module_& module);
void bind_io(py::module_& module);

// Releases the GIL around a coarse call.
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

// A Python sequence of ints (or one int) as a shape.
[[nodiscard]] Shape to_shape(const py::object& sizes);
// None, one int or a sequence of ints.
[[nodiscard]] std::vector<std::int64_t> to_dimensions(const py::object& dimensions);
[[nodiscard]] py::tuple to_tuple(const Shape& shape);
// A tensor as it is; a Python number as a 0-d tensor of `like`'s dtype.
[[nodiscard]] Tensor to_operand(const py::object& value, const Tensor& like);

}  // namespace tempra::python
