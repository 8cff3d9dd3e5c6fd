// Every function of the module is called through `explained`, one indirect call that looks only at
// what failed. What is needed is read from the signatures that pybind11 lists in its own error.
#include "argument_errors.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "annotations.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

using Function = PyObject* (*)(PyObject* self, PyObject* const* arguments, Py_ssize_t count,
                               PyObject* names);

// pybind11's, which all functions have in common.
Function dispatcher = nullptr;

// Setters have no name of their own.
std::map<PyObject*, std::string>& names_of_setters() {
    static std::map<PyObject*, std::string> names;
    return names;
}

struct Call {
    std::vector<py::handle> positional;
    std::vector<std::pair<std::string, py::handle>> named;
};

struct Complaint {
    size_t place = 0;  // how many arguments were in order
    std::string what;
    std::string needed;
};

Complaint wrong_value(size_t place, const Parameter& parameter, const py::handle& value) {
    const std::string needed = words_of(parameter.annotation);
    return {place,
            format("{}: {} given", parameter.name, described(misfit(parameter.annotation, value))),
            needed};
}

std::string names_of(const std::vector<Parameter>& parameters) {
    std::string names;
    for (const Parameter& parameter : parameters) {
        if (parameter.name == "self") continue;
        names += (names.empty() ? "" : ", ") + parameter.name;
    }
    return names.empty() ? "none" : names;
}

// What is wrong with a call for one signature.
Complaint complaint_of(const Signature& signature, const Call& call) {
    const std::vector<Parameter>& parameters = signature.parameters;
    std::vector<py::handle> values(parameters.size());
    size_t place = 0;
    for (const py::handle& value : call.positional) {
        if (place < parameters.size() && !parameters[place].keyword_only) {
            values[place++] = value;
        } else if (!signature.takes_any_positional) {
            const size_t self = parameters.empty() || parameters[0].name != "self" ? 0 : 1;
            const auto takes = static_cast<size_t>(
                std::count_if(parameters.begin(), parameters.end(),
                              [](const Parameter& each) { return !each.keyword_only; }));
            return {place, format("{} arguments by position given", call.positional.size() - self),
                    format("at most {}: {}", takes - self, names_of(parameters))};
        }
    }
    for (const auto& [name, value] : call.named) {
        const auto found = std::find_if(parameters.begin(), parameters.end(),
                                        [&](const Parameter& each) { return each.name == name; });
        if (found == parameters.end()) {
            if (signature.takes_any_named) continue;
            return {place, format("unknown argument {} given", name),
                    "one of " + names_of(parameters)};
        }
        py::handle& slot = values[static_cast<size_t>(found - parameters.begin())];
        if (slot) return {place, format("{} given twice", name), "it once"};
        slot = value;
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
        if (!values[i] && !parameters[i].has_default) {
            return {i, format("{} is missing", parameters[i].name),
                    words_of(parameters[i].annotation)};
        }
        if (values[i] && !fits(parameters[i].annotation, values[i])) {
            return wrong_value(i, parameters[i], values[i]);
        }
    }
    // Every type is right, so a number is none that its argument can hold: one beyond 64 bits
    // rather than a negative one, and that rather than any other.
    size_t at = parameters.size();
    int gravest = 0;
    bool negative = false;
    for (size_t i = 0; i < parameters.size(); ++i) {
        if (!values[i] || !PyLong_CheckExact(values[i].ptr())) continue;
        int overflow = 0;
        const long long number = PyLong_AsLongLongAndOverflow(values[i].ptr(), &overflow);
        const bool below = overflow < 0 || (overflow == 0 && number < 0);
        const int gravity = overflow != 0 ? 3 : below ? 2 : 1;
        if (gravity <= gravest) continue;
        gravest = gravity;
        at = i;
        negative = below;
    }
    if (at < parameters.size()) {
        Complaint found = wrong_value(at, parameters[at], values[at]);
        found.needed += negative ? " that is not negative, or nearer to 0" : " nearer to 0";
        return found;
    }
    return {parameters.size(), "arguments that do not fit given", names_of(parameters)};
}

Call call_of(PyObject* const* arguments, Py_ssize_t count, PyObject* names, bool constructs) {
    Call call;
    // A constructor's signature is without self.
    for (Py_ssize_t i = constructs ? 1 : 0; i < count; ++i)
        call.positional.emplace_back(arguments[i]);
    for (Py_ssize_t i = 0; names != nullptr && i < PyTuple_GET_SIZE(names); ++i) {
        call.named.emplace_back(py::cast<std::string>(py::handle(PyTuple_GET_ITEM(names, i))),
                                arguments[count + i]);
    }
    return call;
}

// "__matmul__" as "matmul".
std::string plain_name(std::string_view name) {
    while (name.starts_with('_')) name.remove_prefix(1);
    while (name.ends_with('_')) name.remove_suffix(1);
    return std::string(name);
}

// Empty where the text is another error's.
std::string line_for(const std::string& text, PyObject* self, PyObject* const* arguments,
                     Py_ssize_t count, PyObject* names) {
    const bool constructs =
        text.find("(): incompatible constructor arguments") != std::string::npos;
    const size_t end = constructs ? text.find("(): incompatible constructor arguments")
                                  : text.find("(): incompatible function arguments");
    std::vector<Signature> signatures = signatures_in(text);
    if (end == std::string::npos || signatures.empty()) return {};
    const auto setter = names_of_setters().find(self);
    if (setter != names_of_setters().end()) signatures.front().parameters.back().name = "value";
    const Call call = call_of(arguments, count, names, constructs);
    std::optional<Complaint> said;
    for (const Signature& signature : signatures) {
        const Complaint found = complaint_of(signature, call);
        if (!said || found.place > said->place) {
            said = found;
        } else if (found.place == said->place && found.needed != said->needed) {
            said->needed += ", or " + found.needed;
        }
    }
    std::string name = text.substr(0, end);
    if (constructs) name = signatures.front().name;
    if (setter != names_of_setters().end()) name = setter->second;
    if (name.starts_with("__")) name = plain_name(name);
    return format("{}: {}; needs {}", name, said->what, said->needed);
}

void explain(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
    py::error_already_set error;  // takes the error, which is given back where it stays
    std::string line;
    try {
        line = line_for(py::str(error.value()).cast<std::string>(), self, arguments, count, names);
    } catch (const std::exception&) {
        line.clear();
    }
    if (line.empty()) {
        error.restore();
    } else {
        PyErr_SetString(PyExc_TypeError, line.c_str());
    }
}

PyObject* explained(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
    PyObject* result = nullptr;
    try {
        result = dispatcher(self, arguments, count, names);
    } catch (py::error_already_set& error) {  // while pybind11 put its own message together
        error.restore();
    }
    if (result == nullptr && PyErr_ExceptionMatches(PyExc_TypeError) != 0) [[unlikely]] {
        explain(self, arguments, count, names);
    }
    return result;
}

// pybind11 keeps a definition of its own for every function, which Python reads at each call.
void explain_errors_of(PyObject* object) {
    if (PyInstanceMethod_Check(object)) object = PyInstanceMethod_GET_FUNCTION(object);
    if (!PyCFunction_Check(object)) return;
    PyMethodDef* const definition = reinterpret_cast<PyCFunctionObject*>(object)->m_ml;
    if ((definition->ml_flags & ~METH_STATIC) != (METH_FASTCALL | METH_KEYWORDS)) return;
    const auto called =
        reinterpret_cast<Function>(reinterpret_cast<void (*)()>(definition->ml_meth));
    if (called == explained) return;
    if (dispatcher == nullptr) dispatcher = called;
    if (called != dispatcher) return;
    definition->ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(explained));
}

void explain_errors_in(const py::dict& names) {
    for (const auto& [name, value] : names) {
        explain_errors_of(value.ptr());
        for (const char* part : {"fset", "__func__"}) {
            const py::object held = py::getattr(value, part, py::none());
            explain_errors_of(held.ptr());
        }
        const py::object setter = py::getattr(value, "fset", py::none());
        if (PyInstanceMethod_Check(setter.ptr()) || PyCFunction_Check(setter.ptr())) {
            const auto self = py::getattr(setter, "__self__");
            names_of_setters()[self.ptr()] = name.cast<std::string>();
        }
    }
}

}  // namespace

std::string described(const py::handle& value) {
    if (value.is_none()) return "None";
    std::string type = py::type::of(value).attr("__name__").cast<std::string>();
    if (!PyUnicode_Check(value.ptr()) && !PyLong_Check(value.ptr()) &&
        !PyFloat_Check(value.ptr())) {
        return type;
    }
    constexpr size_t kLongest = 60;
    auto shown = py::repr(value).cast<std::string>();
    if (shown.size() > kLongest) shown = shown.substr(0, kLongest - 3) + "...";
    return format("{} ({})", shown, type);
}

void explain_argument_errors(const py::module_& module) {
    const auto names = py::reinterpret_borrow<py::dict>(module.attr("__dict__"));
    explain_errors_in(names);
    for (const auto& [name, value] : names) {
        if (!PyType_Check(value.ptr())) continue;
        explain_errors_in(py::dict(value.attr("__dict__")));
    }
}

}  // namespace tempra::python
