// What there is of CUDA.
#include "bindings.h"
#include "tempra/cuda.h"
#include "tempra/error.h"
#include "tempra/runtime.h"

namespace tempra::python {

Device device_of_name(const std::string& name) {
    const Device device = device_from_name(name);
    if (device.type == DeviceType::cuda && cuda_library_path().empty()) {
        const py::gil_scoped_acquire held;  // some callers let other threads run meanwhile
        py::module_::import("tempra.cuda").attr("find_library")();
    }
    return device;
}

namespace {

int cuda_index(const std::string& name) {
    const Device device = device_of_name(name);
    TEMPRA_CHECK(DeviceError, device.type == DeviceType::cuda,
                 "device {} has no CUDA memory; give cuda or cuda:N", name);
    return device.index;
}

void bind_memory(py::module_& module) {
    const auto device = py::arg("device") = "cuda";
    module.def(
        "cuda_memory",
        [](const std::string& name) {
            const CudaMemory memory = cuda_memory(cuda_index(name));
            py::dict result;
            result["bytes_requested"] = memory.bytes_requested;
            result["bytes_in_use"] = memory.bytes_in_use;
            result["peak_bytes_in_use"] = memory.peak_bytes_in_use;
            result["bytes_reserved"] = memory.bytes_reserved;
            result["peak_bytes_reserved"] = memory.peak_bytes_reserved;
            result["largest_free_block"] = memory.largest_free_block;
            result["allocations"] = memory.allocations;
            result["fragmentation"] = memory.fragmentation;
            return result;
        },
        device, "Bytes held on a device by tensors and kernels, now and at the peak.");
    module.def(
        "reset_peak_cuda_memory",
        [](const std::string& name) { reset_peak_cuda_memory(cuda_index(name)); }, device,
        "Starts a new measurement of the peak.");
    module.def(
        "release_free_cuda_memory",
        [](const std::string& name) { release_free_cuda_memory(cuda_index(name)); }, device,
        "Returns cached free blocks to the driver.");
    module.def(
        "synchronize_cuda",
        [](const std::string& name) {
            const int index = cuda_index(name);
            const py::gil_scoped_release release;
            synchronize_cuda(index);
        },
        device, "Waits for a device, and raises what its kernels found out.");
    module.def(
        "cuda_traffic",
        [] {
            const CudaTraffic traffic = cuda_traffic();
            py::dict result;
            result["waits"] = traffic.waits;
            result["held_back"] = traffic.held_back;
            result["copies_to_host"] = traffic.copies_to_host;
            result["copies_to_device"] = traffic.copies_to_device;
            result["bytes_to_host"] = traffic.bytes_to_host;
            result["bytes_to_device"] = traffic.bytes_to_device;
            result["captures"] = traffic.captures;
            result["graph_launches"] = traffic.graph_launches;
            return result;
        },
        "How often the host waited for a device, and what was copied between them.");
    module.def("set_cuda_deterministic", &set_cuda_deterministic, py::arg("deterministic"),
               "Whether attention's gradients on a device add up in one order in every run.");
}

void bind_graph(py::module_& module) {
    py::class_<CudaGraph>(module, "CudaGraph",
                          "What is put on a device from here to end(), recorded and not run.")
        .def(py::init([](const std::string& name) {
                 return std::make_unique<CudaGraph>(cuda_index(name));
             }),
             py::arg("device") = "cuda")
        .def("end", &CudaGraph::end, "Ends the recording; from here on the graph can be launched.")
        .def("discard", &CudaGraph::discard, "Ends the recording and keeps nothing of it.")
        .def("launch", &CudaGraph::launch, ReleaseGil(),
             "Puts what was recorded on the device, with the same arguments and memory.");
}

}  // namespace

void bind_cuda(py::module_& module) {
    bind_memory(module);
    bind_graph(module);
    py::class_<CudaDevice>(module, "CudaDevice", "A CUDA device as its driver describes it.")
        .def_readonly("name", &CudaDevice::name)
        .def_readonly("compute_major", &CudaDevice::compute_major)
        .def_readonly("compute_minor", &CudaDevice::compute_minor)
        .def_readonly("multiprocessors", &CudaDevice::multiprocessors)
        .def_readonly("total_bytes", &CudaDevice::total_bytes)
        .def_readonly("free_bytes", &CudaDevice::free_bytes)
        .def_readonly("usable", &CudaDevice::usable);
    py::class_<CudaStatus>(module, "CudaStatus", "What a search for CUDA found.")
        .def_readonly("unavailable", &CudaStatus::unavailable)
        .def_readonly("library_path", &CudaStatus::library_path)
        .def_readonly("library_version", &CudaStatus::library_version)
        .def_readonly("architectures", &CudaStatus::architectures)
        .def_readonly("driver_version", &CudaStatus::driver_version)
        .def_readonly("runtime_version", &CudaStatus::runtime_version)
        .def_readonly("devices", &CudaStatus::devices)
        .def_readonly("attention", &CudaStatus::attention);
    module.def("cuda_status", &cuda_status, "Library, driver and devices, or why there are none.");
    module.def("cuda_library_path", &cuda_library_path,
               "The CUDA library's file; empty before it is loaded.");
    module.def("set_cuda_library_path", &set_cuda_library_path, py::arg("path"),
               "Says where libtempra_cuda.so is.");
    module.def(
        "check_device",
        [](const std::string& name) {
            static_cast<void>(device_of_name(name));
            check_device(name);
        },
        py::arg("name"),
        "Raises DeviceError, with the reason, unless tensors can be computed there.");
}

}  // namespace tempra::python
