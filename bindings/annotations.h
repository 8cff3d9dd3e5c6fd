// Signatures as pybind11 writes them, read back: which parameters there are, what each one takes.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <vector>

namespace tempra::python {

namespace py = pybind11;

struct Parameter {
    std::string name;
    std::string annotation;
    bool has_default = false;
    bool keyword_only = false;
};

struct Signature {
    std::string name;  // of the class, for a constructor
    std::vector<Parameter> parameters;
    bool takes_any_positional = false;
    bool takes_any_named = false;
};

// Those that pybind11 lists in the error for arguments that fit none of them.
[[nodiscard]] std::vector<Signature> signatures_in(const std::string& error);

// Whether a value is of an annotation's type; true where that cannot be told.
[[nodiscard]] bool fits(std::string_view annotation, const py::handle& value);

// The value, or of a list or tuple the first element, that does not fit the annotation.
[[nodiscard]] py::object misfit(std::string_view annotation, const py::handle& value);

// An annotation in words: "an integer, a sequence of integers or None".
[[nodiscard]] std::string words_of(std::string_view annotation);

}  // namespace tempra::python
