#include "bindings.h"

namespace tempra::python {

void bind_fused(py::module_& /*module*/) {}

}  // namespace tempra::python
