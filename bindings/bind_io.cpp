#include "bindings.h"

namespace tempra::python {

void bind_io(py::module_& /*module*/) {}

}  // namespace tempra::python
