// NumPy and DLPack in one place, both ways without a copy.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <utility>

#include "tempra/tensor.h"

namespace tempra::python {

namespace py = pybind11;

// ShapeError, naming `operation`, where numbers do not lie at multiples of their size, as views
// into the middle of packed records do not.
void check_aligned(const void* data, const Shape& sizes, DType dtype, const char* operation);

// Shares the array's memory and keeps the array alive.
[[nodiscard]] Tensor from_numpy(const py::object& array);
// A copy of numbers, nested lists, an array or a tensor; Python floats become f32.
[[nodiscard]] Tensor tensor_from_data(const py::object& data, std::optional<DType> dtype);
// Shares the tensor's memory and keeps it alive; TypeError for bf16 without ml_dtypes, DeviceError
// for a tensor that is not on the CPU.
[[nodiscard]] py::object to_numpy(const Tensor& tensor);
// Consumes the capsule of `object.__dlpack__()`, with a version or without; what is read-only there
// is a tensor that cannot be written to.
[[nodiscard]] Tensor from_dlpack(const py::object& object);

// What a consumer asks of __dlpack__; None where it says nothing.
struct DLPackRequest {
    py::object stream;       // its CUDA stream, by number
    py::object max_version;  // (major, minor) of the newest layout it reads
    py::object device;       // (type, index) where it wants the memory
    py::object copy;         // True: always, False: never
};
// BufferError, as the array API asks for, where the request cannot be met: another device, or
// read-only memory for a consumer of the layout that cannot say so.
[[nodiscard]] py::capsule to_dlpack(const Tensor& tensor, const DLPackRequest& request);
[[nodiscard]] std::pair<int, int> dlpack_device(const Tensor& tensor);

}  // namespace tempra::python
