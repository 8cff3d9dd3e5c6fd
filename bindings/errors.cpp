// One Python exception per C++ error type; all derive from TempraError.
#include <cerrno>

#include "bindings.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

PyObject* base_error = nullptr;
PyObject* io_error = nullptr;
PyObject* missing_file_error = nullptr;
PyObject* existing_file_error = nullptr;

template <class ErrorType>
void bind_error(py::module_& module, const char* name, PyObject* builtin) {
    const py::tuple bases = py::make_tuple(py::handle(base_error), py::handle(builtin));
    py::register_exception<ErrorType>(module, name, bases);
}

// An IoError that is caught as Python's own error for its cause as well.
PyObject* bind_io_error(py::module_& module, const char* name, PyObject* builtin) {
    const py::object type = py::module_::import("types").attr("new_class")(
        name, py::make_tuple(py::handle(io_error), py::handle(builtin)));
    type.attr("__module__") = module.attr("__name__");
    module.attr(name) = type;
    return type.ptr();
}

}  // namespace

void bind_errors(py::module_& module) {
    // Translators registered later are tried first, so the base comes first.
    base_error = py::register_exception<Error>(module, "TempraError", PyExc_RuntimeError).ptr();
    bind_error<ShapeError>(module, "ShapeError", PyExc_ValueError);
    bind_error<DtypeError>(module, "DtypeError", PyExc_TypeError);
    bind_error<DeviceError>(module, "DeviceError", PyExc_RuntimeError);
    bind_error<FormatError>(module, "FormatError", PyExc_ValueError);
    bind_error<ConfigError>(module, "ConfigError", PyExc_ValueError);
    bind_error<CheckpointError>(module, "CheckpointError", PyExc_RuntimeError);
    bind_error<TrainingDisabled>(module, "TrainingDisabled", PyExc_RuntimeError);
    const py::object io = py::module_::import("types").attr("new_class")(
        "IoError", py::make_tuple(py::handle(PyExc_OSError), py::handle(base_error)));
    io.attr("__module__") = module.attr("__name__");
    // The message alone, without OSError's "[Errno 28]".
    io.attr("__str__") = py::cpp_function(
        [](const py::object& self) { return self.attr("strerror"); }, py::is_method(io));
    module.attr("IoError") = io;
    io_error = io.ptr();
    missing_file_error = bind_io_error(module, "MissingFileError", PyExc_FileNotFoundError);
    existing_file_error = bind_io_error(module, "ExistingFileError", PyExc_FileExistsError);
    py::register_exception_translator([](std::exception_ptr pending) {
        try {
            if (pending) std::rethrow_exception(pending);
        } catch (const IoError& error) {
            PyObject* type = error.error_number() == ENOENT   ? missing_file_error
                             : error.error_number() == EEXIST ? existing_file_error
                                                              : io_error;
            const py::object raised =
                py::reinterpret_borrow<py::object>(type)(error.error_number(), error.what());
            PyErr_SetObject(type, raised.ptr());
        }
    });
}

}  // namespace tempra::python
