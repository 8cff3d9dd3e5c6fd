// Arenas and optimizers.
#include "bindings.h"
#include "tempra/arena.h"
#include "tempra/optim/adamw.h"

namespace tempra::python {

namespace {

AdamWOptions options_from(const py::dict& group) {
    AdamWOptions options;
    for (const auto& [key, value] : group) {
        const auto name = key.cast<std::string>();
        if (name == "learning_rate_scale") {
            options.learning_rate_scale = value.cast<double>();
        } else if (name == "weight_decay") {
            options.weight_decay = value.cast<double>();
        } else if (name == "beta1") {
            options.beta1 = value.cast<double>();
        } else if (name == "beta2") {
            options.beta2 = value.cast<double>();
        } else if (name == "epsilon") {
            options.epsilon = value.cast<double>();
        } else {
            throw ConfigError(
                format("adamw: unknown group option '{}'; options are "
                       "learning_rate_scale, weight_decay, beta1, beta2, epsilon",
                       name));
        }
    }
    return options;
}

py::dict to_dict(const StepReport& report) {
    py::dict state;
    state["step_count"] = report.step_count;
    state["gradient_norm"] = report.gradient_norm;
    state["skipped"] = report.skipped;
    state["skipped_in_a_row"] = report.skipped_in_a_row;
    state["skipped_total"] = report.skipped_total;
    if (report.loss_scale > 0) {
        state["loss_scale"] = report.loss_scale;
        state["clean_steps"] = report.clean_steps;
    }
    return state;
}

StepReport from_dict(const py::dict& state) {
    StepReport report;
    report.step_count = state["step_count"].cast<std::int64_t>();
    report.gradient_norm = state["gradient_norm"].cast<double>();
    report.skipped = state["skipped"].cast<bool>();
    report.skipped_in_a_row = state["skipped_in_a_row"].cast<std::int64_t>();
    report.skipped_total = state["skipped_total"].cast<std::int64_t>();
    if (state.contains("loss_scale")) {
        report.loss_scale = state["loss_scale"].cast<double>();
        report.clean_steps = state["clean_steps"].cast<std::int64_t>();
    }
    return report;
}

void bind_arena(py::module_& module) {
    py::class_<ParameterArena, std::shared_ptr<ParameterArena>>(
        module, "ParameterArena", "Parameters and their gradients side by side in memory.")
        .def(py::init<const std::vector<std::pair<std::string, Tensor>>&, std::optional<DType>>(),
             py::arg("named_parameters"), py::kw_only(), py::arg("low_precision") = py::none())
        .def_property_readonly("data", &ParameterArena::data)
        .def_property_readonly("gradients", &ParameterArena::gradients)
        .def_property_readonly("parameters", &ParameterArena::parameters)
        .def_property_readonly("names",
                               [](const ParameterArena& self) {
                                   std::vector<std::string> names;
                                   for (const auto& segment : self.segments()) {
                                       names.push_back(segment.name);
                                   }
                                   return names;
                               })
        .def_property_readonly(
            "segments",
            [](const ParameterArena& self) {
                py::list segments;
                for (const auto& segment : self.segments()) {
                    segments.append(py::make_tuple(segment.name, segment.offset, segment.length));
                }
                return segments;
            },
            "(name, offset, length) of each parameter, in elements.")
        .def("zero_gradients", &ParameterArena::zero_gradients)
        .def("refresh_low_precision_copy", &ParameterArena::refresh_low_precision_copy,
             "Brings the bf16 or f16 copy up to date with parameters that were written since.");
}

}  // namespace

void bind_optim(py::module_& module) {
    bind_arena(module);
    py::class_<AdamW>(module, "AdamW", "AdamW over an arena, one pass a step.")
        .def(py::init([](const std::shared_ptr<ParameterArena>& arena,
                         const std::vector<py::dict>& groups,
                         const std::vector<std::int64_t>& group_of,
                         const std::vector<bool>& frozen) {
                 std::vector<AdamWOptions> options;
                 for (const py::dict& group : groups) options.push_back(options_from(group));
                 return std::make_unique<AdamW>(arena, options, group_of, frozen);
             }),
             py::arg("arena"), py::arg("groups"), py::arg("group_of"), py::arg("frozen"))
        .def("step", &AdamW::step, py::arg("learning_rate"), py::arg("gradient_scale") = 1.0,
             py::arg("max_gradient_norm") = 0.0, ReleaseGil(),
             "Norm, clip, update (skipped when the norm is not finite), bf16 copy.")
        .def("begin_step", &AdamW::begin_step, py::arg("learning_rate"),
             py::arg("gradient_scale") = 1.0, py::arg("max_gradient_norm") = 0.0, ReleaseGil(),
             "The host's half of step: leaves the numbers where the device's half reads them.")
        .def("run_step", &AdamW::run_step, ReleaseGil(),
             "The device's half of step, which a CudaGraph can hold.")
        .def("scale_losses", &AdamW::scale_losses,
             "Gradients are those of losses times loss_scale from now on; for fp16 on a device.")
        .def_property_readonly(
            "loss_scale",
            [](const AdamW& self) -> std::optional<Tensor> {
                const Tensor scale = self.loss_scale();
                return scale.defined() ? std::optional(scale) : std::nullopt;
            },
            "What losses are multiplied by, on the device; None where they are not.")
        .def_property_readonly("step_count",
                               [](const AdamW& self) { return self.report().step_count; })
        .def_property_readonly("gradient_norm",
                               [](const AdamW& self) { return self.report().gradient_norm; })
        .def_property_readonly("skipped", [](const AdamW& self) { return self.report().skipped; })
        .def_property_readonly("skipped_in_a_row",
                               [](const AdamW& self) { return self.report().skipped_in_a_row; })
        .def_property_readonly("skipped_total",
                               [](const AdamW& self) { return self.report().skipped_total; })
        .def_property_readonly("first_moments", &AdamW::first_moments)
        .def_property_readonly("second_moments", &AdamW::second_moments)
        .def("state_dict", [](const AdamW& self) { return to_dict(self.report()); })
        .def(
            "load_state_dict",
            [](AdamW& self, const py::dict& state) { self.restore(from_dict(state)); },
            py::arg("state"));
}

}  // namespace tempra::python
