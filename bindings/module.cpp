// The extension module: one bind call per topic.
#include "argument_errors.h"
#include "bindings.h"

PYBIND11_MODULE(_core, module) {
    module.doc() = "Native core of tempra: tensors, autograd, fused operations, optimizers, files.";
    module.attr("__version__") = TEMPRA_VERSION;
    tempra::python::bind_errors(module);
    tempra::python::bind_tensor(module);
    tempra::python::bind_elementwise(module);
    tempra::python::bind_ops(module);
    tempra::python::bind_reductions(module);
    tempra::python::bind_random(module);
    tempra::python::bind_fused(module);
    tempra::python::bind_decoder(module);
    tempra::python::bind_autograd(module);
    tempra::python::bind_optim(module);
    tempra::python::bind_gradient_clipping(module);
    tempra::python::bind_runtime(module);
    tempra::python::bind_cuda(module);
    tempra::python::bind_io(module);
    tempra::python::bind_packing(module);
    tempra::python::bind_loading(module);
    tempra::python::bind_records(module);
    tempra::python::bind_wdbx(module);
    tempra::python::explain_argument_errors(module);
}
