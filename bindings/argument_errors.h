// Wrong arguments, told in one line: which one, what was given, what is needed.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace tempra::python {

namespace py = pybind11;

// A value as errors show it: 'a' (str), 1.5 (float), None, ndarray.
[[nodiscard]] std::string described(const py::handle& value);

// Call after the last binding. pybind11 answers arguments that fit no signature with all of its C++
// signatures; from here on every function of the module answers in a line instead.
void explain_argument_errors(const py::module_& module);

}  // namespace tempra::python
