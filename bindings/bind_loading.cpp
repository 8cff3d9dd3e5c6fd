// Token streams, rows and the batches assembled from them.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "data_arrays.h"
#include "tempra/data/batch_reader.h"
#include "tempra/data/row_source.h"
#include "tempra/data/token_stream.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

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
    bind_rows(module);
    bind_batches(module);
}

}  // namespace tempra::python
