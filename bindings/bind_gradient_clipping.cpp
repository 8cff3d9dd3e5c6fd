// Norm and clipping of gradients outside an arena.
#include "bindings.h"
#include "tempra/optim/gradient_clipping.h"

namespace tempra::python {

void bind_gradient_clipping(py::module_& module) {
    const auto parameters = py::arg("parameters");
    module.def("gradient_norm", &gradient_norm, parameters, ReleaseGil(),
               "Norm of all gradients together.");
    module.def("clip_grad_norm_", &clip_gradient_norm_, parameters, py::arg("max_norm"),
               ReleaseGil(),
               "Scales the gradients down to max_norm in all; returns the norm before.");
    module.def("clip_grad_value_", &clip_gradient_value_, parameters, py::arg("limit"),
               ReleaseGil(), "Limits every element of the gradients to [-limit, limit].");
}

}  // namespace tempra::python
