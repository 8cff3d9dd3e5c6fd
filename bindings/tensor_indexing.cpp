// tensor[...] by everything that Python allows between the brackets.
#include "bindings.h"
#include "tempra/error.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"

namespace tempra::python {

namespace {

Tensor index_with_slice(const Tensor& x, int dimension, const py::slice& range) {
    py::ssize_t start = 0;
    py::ssize_t stop = 0;
    py::ssize_t step = 0;
    py::ssize_t length = 0;
    if (!range.compute(x.size(dimension), &start, &stop, &step, &length)) {
        throw py::error_already_set();
    }
    return slice(x, dimension, start, stop, step);
}

// Of what has __index__, but not of True and False, which Python counts as 1 and 0.
std::int64_t position_of(const py::object& item) {
    if (py::isinstance<py::bool_>(item) || PyIndex_Check(item.ptr()) == 0) {
        throw py::type_error(
            format("index: {} given; needs integers, slices, None, ... or tensors of integers",
                   type_name(item)));
    }
    const py::ssize_t position = PyNumber_AsSsize_t(item.ptr(), PyExc_IndexError);
    if (position == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return position;
}

}  // namespace

Tensor get_item(Tensor x, const py::object& index) {
    const py::tuple items =
        py::isinstance<py::tuple>(index) ? index.cast<py::tuple>() : py::make_tuple(index);
    int consumed = 0;
    int ellipses = 0;
    for (const py::handle& item : items) {
        if (py::isinstance<py::ellipsis>(item)) {
            ++ellipses;
        } else if (!item.is_none()) {
            ++consumed;
        }
    }
    TEMPRA_CHECK(ShapeError, ellipses <= 1, "index: {} ellipses (...) given; at most 1 can be",
                 ellipses);
    TEMPRA_CHECK(ShapeError, consumed <= x.dimensions(), "index: {} indices given for shape {}",
                 consumed, x.sizes());
    int dimension = 0;
    for (const py::handle& handle : items) {
        const auto item = py::reinterpret_borrow<py::object>(handle);
        if (item.is_none()) {
            x = unsqueeze(x, dimension++);
        } else if (py::isinstance<py::ellipsis>(item)) {
            dimension += x.dimensions() - dimension - consumed;
        } else if (py::isinstance<py::slice>(item)) {
            x = index_with_slice(x, dimension++, item.cast<py::slice>());
            --consumed;
        } else if (py::isinstance<Tensor>(item)) {
            const auto positions = item.cast<Tensor>();
            x = index_select(x, dimension, positions);
            dimension += positions.dimensions();
            --consumed;
        } else {
            const std::int64_t position = position_of(item);
            const std::int64_t size = x.size(dimension);
            // IndexError is how Python's iteration protocol learns of the end.
            if (position < -size || position >= size) {
                throw py::index_error(format("index {} is outside dimension {} of shape {}",
                                             position, dimension, x.sizes()));
            }
            x = select(x, dimension, position);
            --consumed;
        }
    }
    return x;
}

}  // namespace tempra::python
