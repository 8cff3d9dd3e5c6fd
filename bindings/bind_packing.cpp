// Packing plans and the order of samples.
#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "data_arrays.h"
#include "tempra/data/sample_order.h"
#include "tempra/error.h"

namespace tempra::python {

data::PackingOptions packing_options(std::int64_t capacity, const std::string& strategy,
                                     const std::string& overlong, std::uint64_t seed,
                                     std::uint64_t epoch, std::int64_t window, bool longest_first) {
    data::PackingOptions options;
    options.capacity = capacity;
    options.strategy = data::packing_strategy(strategy);
    options.overlong = data::overlong_policy(overlong);
    options.seed = seed;
    options.epoch = epoch;
    options.window = window;
    options.longest_first = longest_first;
    return options;
}

namespace {

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

std::span<const std::int64_t> to_span(const Int64Array& array) {
    TEMPRA_CHECK(ShapeError, array.ndim() == 1,
                 "lengths: an array of {} dimensions given, 1 needed", array.ndim());
    return {array.data(), static_cast<size_t>(array.size())};
}

py::dict counts_of(const data::PackingCounts& counts) {
    py::dict result;
    result["documents"] = counts.documents;
    result["empty"] = counts.empty;
    result["overlong"] = counts.overlong;
    result["split"] = counts.split;
    result["truncated"] = counts.truncated;
    result["rejected"] = counts.rejected;
    result["tokens"] = counts.tokens;
    result["lost_tokens"] = counts.lost_tokens;
    return result;
}

py::array begins_of(const py::object& self) {
    const auto& plan = self.cast<const data::PackingPlan&>();
    if (plan.begins.empty() && !plan.pieces.empty()) {
        py::array_t<std::int64_t> zeros(static_cast<py::ssize_t>(plan.pieces.size()));
        std::fill_n(zeros.mutable_data(), zeros.size(), 0);
        return zeros;
    }
    return view_of(plan.begins.data(), plan.begins.size(), 8, self);
}

template <class Member>
py::array pieces_of(const py::object& self, Member member) {
    const auto& plan = self.cast<const data::PackingPlan&>();
    const data::PackedPiece* first = plan.pieces.data();
    return view_of(first == nullptr ? nullptr : &(first->*member), plan.pieces.size(),
                   sizeof(data::PackedPiece), self);
}

py::list to_rows(const std::vector<data::StreamingPacker::Row>& closed) {
    py::list rows;
    for (const data::StreamingPacker::Row& row : closed) {
        py::list pieces;
        for (const data::StreamingPacker::Piece& piece : row) {
            pieces.append(py::make_tuple(piece.document, piece.begin, piece.length));
        }
        rows.append(std::move(pieces));
    }
    return rows;
}

void bind_plans(py::module_& module) {
    const auto strategy = py::arg("strategy") = "best_fit";
    const auto overlong = py::arg("overlong") = "split";
    const auto window = py::arg("window") = 1024;
    py::class_<data::PackingPlan>(module, "PackingPlan",
                                  "Which pieces of which documents share a row.")
        .def_readonly("capacity", &data::PackingPlan::capacity)
        .def_property_readonly("rows", &data::PackingPlan::rows)
        .def_property_readonly("fill", &data::PackingPlan::fill, "Tokens over room.")
        .def_property_readonly(
            "counts", [](const data::PackingPlan& plan) { return counts_of(plan.counts); },
            "What was done with the documents.")
        .def_property_readonly(
            "documents",
            [](const py::object& self) { return pieces_of(self, &data::PackedPiece::document); },
            "[pieces]: the document of each.")
        .def_property_readonly(
            "lengths",
            [](const py::object& self) { return pieces_of(self, &data::PackedPiece::length); },
            "[pieces]: tokens of each.")
        .def_property_readonly("begins", &begins_of,
                               "[pieces]: the first token of each within its document.")
        .def_property_readonly(
            "row_offsets",
            [](const py::object& self) {
                const auto& plan = self.cast<const data::PackingPlan&>();
                return view_of(plan.row_offsets.data(), plan.row_offsets.size(), 8, self);
            },
            "[rows + 1]: the pieces of each row.")
        .def("__len__", &data::PackingPlan::rows);
    module.def(
        "plan_packing",
        [](const Int64Array& lengths, std::int64_t capacity, const std::string& how,
           const std::string& policy, std::uint64_t seed, std::uint64_t epoch,
           std::int64_t open_rows, bool longest_first) {
            const auto values = to_span(lengths);
            const data::PackingOptions options =
                packing_options(capacity, how, policy, seed, epoch, open_rows, longest_first);
            const py::gil_scoped_release unlocked;
            return std::make_unique<data::PackingPlan>(data::plan_packing(values, options));
        },
        py::arg("lengths"), py::arg("capacity"), strategy, overlong, py::arg("seed") = 0,
        py::arg("epoch") = 0, window, py::arg("longest_first") = false,
        "Plans rows for documents of these lengths, a function of the arguments alone.");
    py::class_<data::StreamingPacker>(module, "StreamingPacker",
                                      "Rows for documents that arrive one by one.")
        .def(py::init([](std::int64_t capacity, const std::string& policy, std::int64_t open_rows) {
                 return data::StreamingPacker(
                     packing_options(capacity, "streaming", policy, 0, 0, open_rows, false));
             }),
             py::arg("capacity"), overlong, window)
        .def(
            "push",
            [](data::StreamingPacker& packer, std::int64_t document, std::int64_t length) {
                std::vector<data::StreamingPacker::Row> closed;
                packer.push(document, length, closed);
                return to_rows(closed);
            },
            py::arg("document"), py::arg("length"),
            "Adds a document; the rows this closes, each a list of (document, begin, length).")
        .def(
            "finish",
            [](data::StreamingPacker& packer) {
                std::vector<data::StreamingPacker::Row> closed;
                packer.finish(closed);
                return to_rows(closed);
            },
            "Closes the open rows.")
        .def_property_readonly(
            "counts",
            [](const data::StreamingPacker& packer) { return counts_of(packer.counts()); })
        .def_property_readonly("open_rows", &data::StreamingPacker::open_rows);
}

void bind_sample_order(py::module_& module) {
    module.def(
        "sample_order",
        [](const Int64Array& indices, std::int64_t count, std::uint64_t seed, std::uint64_t epoch,
           bool inverse) {
            const data::SampleOrder order(count, seed, epoch);
            py::array_t<std::int64_t> result(indices.size());
            const std::int64_t* given = indices.data();
            std::int64_t* out = result.mutable_data();
            const py::ssize_t size = indices.size();
            const py::gil_scoped_release unlocked;
            for (py::ssize_t i = 0; i < size; ++i) {
                TEMPRA_CHECK(ShapeError, given[i] >= 0 && given[i] < count,
                             "sample order: index {} given, 0 to {} needed", given[i], count - 1);
                out[i] = inverse ? order.inverse(given[i]) : order(given[i]);
            }
            return result;
        },
        py::arg("indices"), py::arg("count"), py::arg("seed"), py::arg("epoch"),
        py::arg("inverse") = false,
        "The samples at positions of an epoch (or, inverse, the positions of samples).");
}

}  // namespace

void bind_packing(py::module_& module) {
    bind_plans(module);
    bind_sample_order(module);
}

}  // namespace tempra::python
