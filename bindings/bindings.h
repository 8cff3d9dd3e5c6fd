// What the binding files share: the tensor caster's includes and one bind function per file.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tempra/dtype.h"
#include "tempra/shape.h"
#include "tempra/tensor.h"

namespace tempra::python {

namespace py = pybind11;

// "float32" or "f32", and so on; DtypeError for other names.
[[nodiscard]] DType dtype_of_name(const std::string& name);

// "cpu", "cuda" or "cuda:N"; the first that names CUDA finds the installed library.
[[nodiscard]] Device device_of_name(const std::string& name);

void bind_errors(py::module_& module);
void bind_tensor(py::module_& module);
void bind_elementwise(py::module_& module);
void bind_ops(py::module_& module);
void bind_reductions(py::module_& module);
void bind_random(py::module_& module);
void bind_fused(py::module_& module);
void bind_autograd(py::module_& module);
void bind_cuda(py::module_& module);
void bind_decoder(py::module_& module);
void bind_packing(py::module_& module);
void bind_optim(py::module_& module);
void bind_gradient_clipping(py::module_& module);
void bind_runtime(py::module_& module);
void bind_io(py::module_& module);
void bind_loading(py::module_& module);
void bind_records(py::module_& module);
void bind_wdbx(py::module_& module);

// Releases the GIL around a coarse call.
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

// A str, bytes or os.PathLike, in the file system's own encoding.
[[nodiscard]] std::string to_path(const py::object& path);
using TokenArray = py::array_t<std::uint32_t, py::array::c_style | py::array::forcecast>;
// Any array of integers as token ids; DtypeError or FormatError, naming `source`, when it is none.
[[nodiscard]] TokenArray to_token_array(const py::array& tokens, const std::string& source);
// One int or a sequence of them, as a shape or as dimensions (None: no dimensions).
using Integers = std::variant<std::int64_t, std::vector<std::int64_t>>;
[[nodiscard]] Shape to_shape(const Integers& sizes);
[[nodiscard]] std::vector<std::int64_t> to_dimensions(const std::optional<Integers>& dimensions);
[[nodiscard]] py::tuple to_tuple(const Shape& shape);
[[nodiscard]] std::string type_name(const py::handle& value);
// A tensor as it is; a Python number as a 0-d tensor of `like`'s dtype.
using Operand = std::variant<Tensor, double>;
[[nodiscard]] Tensor to_operand(const Operand& value, const Tensor& like);
// tensor[index]: integers, slices, None, Ellipsis, and integer tensors (which gather along their
// dimension).
[[nodiscard]] Tensor get_item(Tensor x, const py::object& index);

}  // namespace tempra::python

// Wherever a dtype is taken its name will do. Not an implicit conversion, because that would answer
// an unknown name with a TypeError that lists C++ signatures. Where functions are overloaded names
// count only in the second round: DType.f32 == "anything" is false, not an error.
template <>
struct pybind11::detail::type_caster<tempra::DType> : type_caster_base<tempra::DType> {
    bool load(handle source, bool convert) {
        if (!convert || !isinstance<str>(source))
            return type_caster_base<tempra::DType>::load(source, convert);
        named_ = tempra::python::dtype_of_name(source.cast<std::string>());
        value = &named_;
        return true;
    }

  private:
    tempra::DType named_{};
};
