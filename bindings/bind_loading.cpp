// Data: packing plans, token streams, rows and the batches assembled from them.
#include <pybind11/numpy.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "bindings.h"
#include "tempra/data/batch_reader.h"
#include "tempra/data/row_source.h"
#include "tempra/data/sample_order.h"
#include "tempra/data/sequence_packer.h"
#include "tempra/data/token_stream.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

std::span<const std::int64_t> to_span(const Int64Array& array) {
    TEMPRA_CHECK(ShapeError, array.ndim() == 1,
                 "lengths: an array of {} dimensions given, 1 needed", array.ndim());
    return {array.data(), static_cast<size_t>(array.size())};
}

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

// --- packing ---------------------------------------------------------------------------------

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

void bind_packing(py::module_& module) {
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

// --- streams and rows ------------------------------------------------------------------------

// Keeps Python objects until the last reference to the memory they own is gone.
std::shared_ptr<const void> owner_of(py::tuple objects) {
    return {new py::tuple(std::move(objects)), [](const py::tuple* held) {
                const py::gil_scoped_acquire locked;
                delete held;
            }};
}

template <class Element>
const Element* checked_data(const py::object& array, const std::string& name, const char* what,
                            std::int64_t& size) {
    if (!py::isinstance<py::array_t<Element, py::array::c_style>>(array)) {
        throw DtypeError(format("{}: {} need a contiguous array of another dtype", name, what));
    }
    const auto typed = py::reinterpret_borrow<py::array_t<Element, py::array::c_style>>(array);
    size = typed.size();
    return typed.data();
}

data::TokenShard to_shard(const py::tuple& given) {
    data::TokenShard shard;
    shard.name = given[0].cast<std::string>();
    if (py::isinstance<py::array_t<std::uint16_t>>(given[1])) {
        shard.dtype = DType::u16;
        shard.tokens = checked_data<std::uint16_t>(given[1], shard.name, "tokens", shard.size);
    } else {
        shard.tokens = checked_data<std::uint32_t>(given[1], shard.name, "tokens", shard.size);
    }
    if (!given[2].is_none()) {
        std::int64_t size = 0;
        shard.bounds = checked_data<std::uint64_t>(given[2], shard.name, "boundaries", size);
        TEMPRA_CHECK(FormatError, size >= 1, "{}: no document boundaries, at least 1 needed",
                     shard.name);
        shard.documents = size - 1;
    }
    if (!given[3].is_none()) {
        std::int64_t size = 0;
        shard.mask = checked_data<std::uint8_t>(given[3], shard.name, "masks", size);
        TEMPRA_CHECK(FormatError, size == shard.size, "{}: a mask of {} for {} tokens", shard.name,
                     size, shard.size);
    }
    shard.mapped = given[4].cast<bool>();
    shard.owner = owner_of(given);
    return shard;
}

void bind_rows(py::module_& module) {
    py::class_<data::TokenStream, std::shared_ptr<data::TokenStream>>(
        module, "TokenStream",
        "Shards (name, tokens, document boundaries or None, loss mask or None, whether the tokens "
        "are a mapped file) as one stream.")
        .def(py::init([](const std::vector<py::tuple>& shards, std::int64_t vocabulary) {
                 std::vector<data::TokenShard> converted;
                 for (const py::tuple& shard : shards) {
                     TEMPRA_CHECK(ShapeError, shard.size() == 5,
                                  "token stream: a shard of {} parts given, 5 needed",
                                  shard.size());
                     converted.push_back(to_shard(shard));
                 }
                 return std::make_shared<data::TokenStream>(std::move(converted), vocabulary);
             }),
             py::arg("shards"), py::arg("vocabulary"))
        .def("__len__", &data::TokenStream::size)
        .def("check_ids", &data::TokenStream::check_ids, ReleaseGil(),
             "Reads everything; FormatError on an id outside the vocabulary.")
        .def_property_readonly("documents", &data::TokenStream::documents);

    py::class_<data::RowSource, std::shared_ptr<data::RowSource>> rows(
        module, "RowSource", "Training rows numbered through all epochs.");
    rows.def("epochs", &data::RowSource::epochs, py::arg("rows"),
             "How often the data has been read after that many rows.");
    rows.def_property_readonly("row_tokens", &data::RowSource::row_tokens,
                               "The most tokens that a row can have.");
    rows.def_static(
        "windows",
        [](std::shared_ptr<data::TokenStream> stream, std::int64_t block, std::uint64_t seed,
           bool random, bool sequential) {
            return std::shared_ptr<data::RowSource>(
                data::make_window_rows(std::move(stream), {block, seed, random, sequential}));
        },
        py::arg("stream"), py::arg("block"), py::arg("seed"), py::arg("random") = false,
        py::arg("sequential") = false,
        "Windows of a stream: all of its blocks, shuffled or in sequence, or from anywhere.");
    rows.def_static(
        "packed",
        [](std::shared_ptr<data::TokenStream> stream, std::int64_t capacity,
           const std::string& strategy, const std::string& overlong, std::uint64_t seed,
           std::int64_t window, bool longest_first, std::optional<std::int32_t> pad_token,
           std::int64_t part_documents) {
            data::PackedRowOptions options;
            options.packing =
                packing_options(capacity, strategy, overlong, seed, 0, window, longest_first);
            options.pad_token = pad_token;
            options.part_documents = part_documents;
            const py::gil_scoped_release unlocked;
            return std::shared_ptr<data::RowSource>(
                data::make_packed_rows(std::move(stream), options));
        },
        py::arg("stream"), py::arg("capacity"), py::arg("strategy") = "best_fit",
        py::arg("overlong") = "split", py::arg("seed") = 0, py::arg("window") = 1024,
        py::arg("longest_first") = false, py::arg("pad_token") = py::none(),
        py::arg("part_documents") = 1 << 20, "Packed documents of a stream.");
    rows.def_static(
        "ordered",
        [](std::shared_ptr<data::TokenStream> stream, std::int64_t capacity,
           const std::string& strategy, const std::string& overlong, std::int64_t window,
           bool shortest_first, std::optional<std::int32_t> pad_token,
           std::int64_t part_documents) {
            data::OrderedRowOptions options;
            options.packing = packing_options(capacity, strategy, overlong, 0, 0, window, false);
            options.pad_token = pad_token;
            options.shortest_first = shortest_first;
            options.part_documents = part_documents;
            const py::gil_scoped_release unlocked;
            return std::shared_ptr<data::RowSource>(
                data::make_ordered_rows(std::move(stream), options));
        },
        py::arg("stream"), py::arg("capacity"), py::arg("strategy") = "streaming",
        py::arg("overlong") = "split", py::arg("window") = 1, py::arg("shortest_first") = false,
        py::arg("pad_token") = py::none(), py::arg("part_documents") = 1 << 20,
        "Packed documents of a stream in its order, or the shortest first.");
    rows.def_static(
        "mixed",
        [](const std::vector<std::shared_ptr<data::RowSource>>& sources,
           std::vector<std::int64_t> quotas, std::uint64_t seed) {
            return std::shared_ptr<data::RowSource>(
                data::make_mixed_rows({sources.begin(), sources.end()}, std::move(quotas), seed));
        },
        py::arg("sources"), py::arg("quotas"), py::arg("seed"),
        "Rows of several sources, in fixed shares.");
}

// --- batches ---------------------------------------------------------------------------------

// Tokens and labels can be written, since nobody else has this buffer while the arrays live. The
// layout cannot: the next batch in the same buffer relies on it.
py::tuple to_arrays(std::shared_ptr<data::Batch> batch) {
    data::Batch& content = *batch;
    const py::capsule owner(new std::shared_ptr<data::Batch>(std::move(batch)), [](void* held) {
        delete static_cast<std::shared_ptr<data::Batch>*>(held);
    });
    const auto view = [&](const auto& values, bool writeable) {
        return view_of(values.data(), values.size(), 4, owner, writeable);
    };
    return py::make_tuple(view(content.tokens, true), view(content.labels, true),
                          view(content.offsets, false), view(content.positions, false),
                          content.valid_tokens);
}

py::tuple pack_rows(const std::shared_ptr<data::TokenStream>& stream, const py::object& given,
                    std::int64_t first, std::int64_t last, std::optional<std::int32_t> pad_token) {
    const auto& plan = given.cast<const data::PackingPlan&>();
    TEMPRA_CHECK(ShapeError, 0 <= first && first <= last && last <= plan.rows(),
                 "pack_rows: rows {} to {} given, 0 to {} there", first, last, plan.rows());
    TEMPRA_CHECK(ShapeError, plan.counts.documents == stream->documents(),
                 "pack_rows: a plan for {} documents given, the stream has {}",
                 plan.counts.documents, stream->documents());
    auto batch = std::make_shared<data::Batch>();
    {
        const py::gil_scoped_release unlocked;
        data::BatchWriter writer(*batch, (last - first) * plan.capacity);
        for (std::int64_t row = first; row < last; ++row) {
            data::append_packed_row(plan, row, *stream, 0, pad_token, writer);
            writer.move_pending();
        }
        writer.finish();
    }
    return to_arrays(std::move(batch));
}

void bind_batches(py::module_& module) {
    py::class_<data::BatchReader>(module, "BatchReader",
                                  "Batches by number, assembled ahead by a thread.")
        .def(py::init([](std::shared_ptr<data::RowSource> source, std::int64_t rows,
                         std::int64_t rank, std::int64_t world_size, std::int64_t readahead) {
                 return std::make_unique<data::BatchReader>(
                     std::move(source), data::BatchShape{rows, rank, world_size}, readahead);
             }),
             py::arg("source"), py::arg("rows"), py::arg("rank") = 0, py::arg("world_size") = 1,
             py::arg("readahead") = 3)
        .def(
            "read",
            [](data::BatchReader& reader, std::int64_t index) {
                reader.start();  // still under the interpreter's lock
                std::shared_ptr<data::Batch> batch;
                {
                    const py::gil_scoped_release unlocked;
                    batch = reader.read(index);
                }
                return to_arrays(std::move(batch));
            },
            py::arg("index"), "(tokens, labels, offsets, positions, valid tokens) of a batch.")
        .def_property_readonly("seconds_waited", &data::BatchReader::seconds_waited,
                               "How long read has waited in all.");
    module.def("pack_rows", &pack_rows, py::arg("stream"), py::arg("plan"), py::arg("first"),
               py::arg("last"), py::arg("pad_token") = py::none(),
               "Rows first to last of a plan: (tokens, labels, offsets, positions, valid tokens).");
}

}  // namespace

void bind_loading(py::module_& module) {
    bind_packing(module);
    bind_sample_order(module);
    bind_rows(module);
    bind_batches(module);
}

}  // namespace tempra::python
