// Gradients: modes, the backward walk, gradients as values.
#include "bindings.h"
#include "tempra/autograd.h"
#include "tempra/training.h"

namespace tempra::python {

namespace {

// A context manager that sets a thread's mode and restores it; may be nested and entered again.
template <bool (*read)(), void (*write)(bool), bool value>
struct ModeContext {
    std::vector<bool> previous;
    void enter() {
        previous.push_back(read());
        write(value);
    }
    void exit() {
        write(previous.back());
        previous.pop_back();
    }
};

template <class Context>
void bind_mode(py::module_& module, const char* name, const char* doc) {
    py::class_<Context>(module, name, doc)
        .def(py::init<>())
        .def("__enter__", [](Context& self) { self.enter(); })
        .def("__exit__", [](Context& self, const py::args& /*exception*/) { self.exit(); });
}

// A single tensor counts as a list of one.
using Tensors = std::variant<Tensor, std::vector<Tensor>>;
std::vector<Tensor> to_tensors(const Tensors& tensors) {
    if (const auto* one = std::get_if<Tensor>(&tensors)) return {*one};
    return std::get<1>(tensors);
}

}  // namespace

void bind_autograd(py::module_& module) {
    bind_mode<ModeContext<is_grad_enabled, set_grad_enabled, false>>(
        module, "no_grad", "Context in which operations are not recorded.");
    bind_mode<ModeContext<is_grad_enabled, set_grad_enabled, true>>(
        module, "enable_grad", "Context in which operations are recorded, inside no_grad too.");
    bind_mode<ModeContext<is_composed, set_composed, true>>(
        module, "composed",
        "Context in which fused operations run as primitive ones, differentiable to any order.");
    module.def("is_grad_enabled", &is_grad_enabled,
               "Whether operations are recorded on this thread.");
    module.def("is_enabled", &is_enabled, "Whether this build can train.");
    module.def(
        "grad",
        [](const Tensors& outputs, const Tensors& inputs,
           const std::optional<Tensors>& grad_outputs, bool create_graph,
           std::optional<bool> retain_graph, bool allow_unused) {
            const std::vector<Tensor> from = to_tensors(outputs);
            const std::vector<Tensor> to = to_tensors(inputs);
            const std::vector<Tensor> seeds =
                grad_outputs ? to_tensors(*grad_outputs) : std::vector<Tensor>();
            GradOptions options;
            options.create_graph = create_graph;
            options.retain_graph = retain_graph.value_or(create_graph);
            options.allow_unused = allow_unused;
            std::vector<Tensor> results;
            {
                const py::gil_scoped_release release;
                results = grad(from, to, seeds, options);
            }
            py::list list;
            for (const Tensor& result : results) {
                list.append(result.defined() ? py::cast(result) : py::none());
            }
            return list;
        },
        py::arg("outputs"), py::arg("inputs"), py::arg("grad_outputs") = py::none(), py::kw_only(),
        py::arg("create_graph") = false, py::arg("retain_graph") = py::none(),
        py::arg("allow_unused") = false,
        "Gradients of outputs with respect to inputs, as fresh tensors; .grad is left alone.");
}

}  // namespace tempra::python
