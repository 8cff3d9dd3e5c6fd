// Generators, random fills and draws, dropout.
#include "bindings.h"
#include "tempra/random.h"

namespace tempra::python {

namespace {

py::dict state_of(const Generator& generator) {
    const GeneratorState state = generator.state();
    py::dict result;
    result["seed"] = state.seed;
    result["step"] = state.step;
    result["ordinal"] = state.ordinal;
    result["row_offset"] = state.row_offset;
    return result;
}

void set_state(Generator& generator, const py::dict& state) {
    const auto read = [&](const char* key) {
        TEMPRA_CHECK(ConfigError, state.contains(key),
                     "generator state: '{}' is missing; needs seed, step, ordinal and row_offset",
                     key);
        return state[key];
    };
    generator.set_state({read("seed").cast<std::uint64_t>(), read("step").cast<std::uint32_t>(),
                         read("ordinal").cast<std::uint32_t>(),
                         read("row_offset").cast<std::uint32_t>()});
}

void bind_generator(py::module_& module) {
    py::class_<Generator>(module, "Generator",
                          "Counter-based random numbers: a position given by four integers.")
        .def(py::init<std::uint64_t>(), py::arg("seed") = 0)
        .def("state", &state_of, "Dict of seed, step, ordinal and row_offset.")
        .def("set_state", &set_state, py::arg("state"), "Restores what state() returned.")
        .def("set_step", &Generator::set_step, py::arg("step"),
             "Starts a step: ordinals count from 0 again.")
        .def("set_row_offset", &Generator::set_row_offset, py::arg("row_offset"),
             "Global number of this process's first sample row.")
        .def(
            "read_step_from",
            [](Generator& generator, const std::optional<Tensor>& step) {
                generator.read_step_from(step.value_or(Tensor()));
            },
            py::arg("step"),
            "Operations on the device of step [] (i32) take the step that lies there when they "
            "run; None ends that.")
        .def("__repr__", [](const Generator& generator) {
            const GeneratorState state = generator.state();
            return format("Generator(seed={}, step={}, ordinal={}, row_offset={})", state.seed,
                          state.step, state.ordinal, state.row_offset);
        });
    module.def("default_generator", &default_generator, py::return_value_policy::reference,
               "The generator used where none is given.");
    module.def("manual_seed", &manual_seed, py::arg("seed"),
               "Seeds the default generator and starts it over.");
}

}  // namespace

void bind_random(py::module_& module) {
    bind_generator(module);
    const auto generator = py::arg("generator").none(true) = static_cast<Generator*>(nullptr);
    const auto dtype = py::arg("dtype") = DType::f32;
    const auto device = py::arg("device") = "cpu";
    module.def(
        "uniform",
        [](const Integers& shape, double low, double high, DType type, Generator* source,
           const std::string& place) {
            return uniform(to_shape(shape), low, high, type, source, device_of_name(place));
        },
        py::arg("shape"), py::arg("low") = 0.0, py::arg("high") = 1.0, py::kw_only(), dtype,
        generator, device, "Tensor of uniform numbers in [low, high).");
    module.def(
        "normal",
        [](const Integers& shape, double mean, double deviation, DType type, Generator* source,
           const std::string& place) {
            return normal(to_shape(shape), mean, deviation, type, source, device_of_name(place));
        },
        py::arg("shape"), py::arg("mean") = 0.0, py::arg("standard_deviation") = 1.0, py::kw_only(),
        dtype, generator, device, "Tensor of normally distributed numbers.");
    module.def(
        "uniform_",
        [](const Tensor& x, double low, double high, Generator* source) {
            uniform_(x, low, high, source);
            return x;
        },
        py::arg("x"), py::arg("low") = 0.0, py::arg("high") = 1.0, py::kw_only(), generator,
        "Overwrites x with uniform numbers in [low, high).");
    module.def(
        "normal_",
        [](const Tensor& x, double mean, double deviation, Generator* source) {
            normal_(x, mean, deviation, source);
            return x;
        },
        py::arg("x"), py::arg("mean") = 0.0, py::arg("standard_deviation") = 1.0, py::kw_only(),
        generator, "Overwrites x with normally distributed numbers.");
    module.def("categorical", &categorical, py::arg("logits"), py::kw_only(), generator,
               "One class index (i64) drawn for each row of logits [..., classes].");
    module.def("dropout", &dropout, py::arg("x"), py::arg("probability"), py::kw_only(), generator,
               "Zeroes elements with the given probability and scales the rest up.");
}

}  // namespace tempra::python
