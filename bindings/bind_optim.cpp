#include "bindings.h"

namespace tempra::python {

void bind_optim(py::module_& /*module*/) {}

}  // namespace tempra::python
