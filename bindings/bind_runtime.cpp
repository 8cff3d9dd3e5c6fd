// Threads, instruction set, memory.
#include "bindings.h"
#include "platform/memory_info.h"
#include "tempra/profile.h"
#include "tempra/runtime.h"
#include "tempra/threads.h"

namespace tempra::python {

namespace {

// `with Profile() as profile: ...` collects; entries() stays readable afterwards.
struct Profile {
    std::vector<ProfileEntry> entries;
};

void bind_profile(py::module_& module) {
    py::class_<Profile>(module, "Profile",
                        "Context that counts and times every kernel call of the process.")
        .def(py::init<>())
        .def(
            "__enter__",
            [](Profile& self) -> Profile& {
                start_profile();
                return self;
            },
            py::return_value_policy::reference_internal)
        .def("__exit__",
             [](Profile& self, const py::args& /*exception*/) {
                 stop_profile();
                 self.entries = profile_entries();
             })
        .def(
            "entries",
            [](const Profile& self) {
                std::vector<std::tuple<std::string, std::int64_t, double>> rows;
                for (const ProfileEntry& entry : self.entries) {
                    rows.emplace_back(entry.name, entry.calls,
                                      static_cast<double>(entry.nanoseconds) * 1e-9);
                }
                return rows;
            },
            "(name, calls, seconds), the longest first.");
}

}  // namespace

void bind_runtime(py::module_& module) {
    bind_profile(module);
    module.def("get_num_threads", &num_threads, "Threads that take part in a kernel.");
    module.def("set_num_threads", &set_num_threads, py::arg("count"),
               "Sets the number of threads.");
    module.def("current_isa", &current_isa_name, "Instruction set of the CPU kernels in use.");
    module.def("set_isa", &force_isa, py::arg("name"), "Forces an instruction set by name.");
    module.def("supported_isas", &supported_isa_names,
               "Instruction sets this machine and build can run.");
    module.def(
        "memory_statistics",
        [] {
            const MemoryUse use = memory_use();
            py::dict result;
            result["bytes_in_use"] = use.bytes_in_use;
            result["peak_bytes_in_use"] = use.peak_bytes_in_use;
            result["bytes_reserved"] = use.bytes_reserved;
            result["peak_bytes_reserved"] = use.peak_bytes_reserved;
            result["allocations"] = use.allocations;
            return result;
        },
        "Bytes held by tensors and kernels, now and at the peak.");
    module.def("reset_peak_memory", &reset_peak_memory, "Starts a new measurement of the peak.");
    module.def("release_free_memory", &release_free_memory,
               "Returns cached free blocks to the system.");
    module.def(
        "resident_bytes", [] { return platform::memory_info().resident; },
        "Memory of this process, now.");
    module.def(
        "peak_resident_bytes", [] { return platform::memory_info().peak_resident; },
        "Memory of this process at its peak.");
    module.def(
        "available_memory_bytes",
        [] {
            const platform::MemoryInfo info = platform::memory_info();
            const std::int64_t below_limit = info.limit - info.resident;
            if (info.limit == 0 || below_limit > info.available) return info.available;
            return below_limit > 0 ? below_limit : std::int64_t{0};
        },
        "Memory this process can still take: the machine's, or what its control group leaves.");
}

}  // namespace tempra::python
