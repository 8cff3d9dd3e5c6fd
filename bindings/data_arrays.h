// What the bindings of packing plans and of rows share.
#pragma once

#include "bindings.h"
#include "tempra/data/sequence_packer.h"

namespace tempra::python {

// An array over memory that `owner` keeps, with a byte step between its elements.
template <class Element>
py::array view_of(const Element* data, size_t size, py::ssize_t step, const py::object& owner,
                  bool writeable = false) {
    py::array array(py::dtype::of<Element>(), {static_cast<py::ssize_t>(size)}, {step}, data,
                    owner);
    if (!writeable) {
        py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    }
    return array;
}

[[nodiscard]] data::PackingOptions packing_options(std::int64_t capacity,
                                                   const std::string& strategy,
                                                   const std::string& overlong, std::uint64_t seed,
                                                   std::uint64_t epoch, std::int64_t window,
                                                   bool longest_first);

}  // namespace tempra::python
