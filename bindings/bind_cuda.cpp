// What there is of CUDA.
#include "bindings.h"
#include "tempra/runtime.h"

namespace tempra::python {

void bind_cuda(py::module_& module) {
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
        .def_readonly("devices", &CudaStatus::devices);
    module.def("cuda_status", &cuda_status, "Library, driver and devices, or why there are none.");
    module.def("cuda_library_path", &cuda_library_path,
               "The CUDA library's file; empty before it is loaded.");
    module.def("set_cuda_library_path", &set_cuda_library_path, py::arg("path"),
               "Says where libtempra_cuda.so is.");
    module.def("check_device", &check_device, py::arg("name"),
               "Raises DeviceError, with the reason, unless tensors can be computed there.");
}

}  // namespace tempra::python
