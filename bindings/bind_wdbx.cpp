// Token datasets in WDBX files, what such files hold, and checkpoints of the ABI program.
#include <pybind11/numpy.h>

#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <string>

#include "bindings.h"
#include "tempra/data/abi_checkpoint.h"
#include "tempra/data/bloom_filter.h"
#include "tempra/data/wdbx.h"
#include "tempra/data/wdbx_token_dataset.h"
#include "tempra/error.h"

namespace tempra::python {

namespace {

data::ExistingFile to_existing(const std::string& mode) {
    if (mode == "fail") return data::ExistingFile::fail;
    if (mode == "replace") return data::ExistingFile::replace;
    if (mode == "append") return data::ExistingFile::append;
    throw ConfigError(format("mode: {} given, fail, replace or append needed", mode));
}

// Bytes from a file that ought to be UTF-8; those that are not survive a round trip.
py::str to_text(std::string_view bytes) {
    PyObject* text = PyUnicode_DecodeUTF8(bytes.data(), static_cast<py::ssize_t>(bytes.size()),
                                          "surrogateescape");
    if (text == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(text);
}

std::string to_bytes(const py::object& text) {
    if (text.is_none()) return "";
    if (py::isinstance<py::bytes>(text)) return text.cast<std::string>();
    if (!py::isinstance<py::str>(text)) throw py::type_error("text: a str or bytes needed");
    PyObject* bytes = PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogateescape");
    if (bytes == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::bytes>(bytes).cast<std::string>();
}

py::array_t<std::uint32_t> to_array(const std::vector<std::uint32_t>& tokens) {
    return py::array_t<std::uint32_t>(static_cast<py::ssize_t>(tokens.size()), tokens.data());
}

// Lets a signal, Ctrl-C above all, end a long write: what was there before then stays.
class SignalCheck {
  public:
    void operator()() {
        constexpr auto kInterval = std::chrono::milliseconds(50);
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < kInterval) return;
        last_ = now;
        const py::gil_scoped_acquire locked;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }

  private:
    std::chrono::steady_clock::time_point last_;  // of the epoch: the first call checks
};

// A dataset that threads may share: every call holds the lock, and none holds the GIL for long.
class DatasetHandle {
    // Before their uses, which need their return types.
    template <class Action>
    auto locked(const Action& action) {
        const py::gil_scoped_release unlocked;
        const std::lock_guard lock(mutex_);
        return action();
    }
    template <class Action>
    auto change(const Action& action) {
        return locked([&] {
            ++version_;
            return action();
        });
    }

  public:
    explicit DatasetHandle(const py::object& path) : DatasetHandle(to_path(path), false) {}
    DatasetHandle(const std::string& path, bool fresh)
        : dataset_([&] {
              const py::gil_scoped_release unlocked;
              return fresh ? data::WdbxTokenDataset::create(path) : data::WdbxTokenDataset(path);
          }()) {}

    std::uint64_t append(const py::array& tokens, const py::object& text) {
        const TokenArray plain = to_token_array(tokens, dataset_.path());
        const std::string bytes = to_bytes(text);
        const std::span<const std::uint32_t> values(plain.data(),
                                                    static_cast<size_t>(plain.size()));
        return change([&] { return dataset_.append(values, bytes); });
    }

    std::int64_t import_token_bin(const py::object& source, std::int64_t block_tokens) {
        const std::string name = to_path(source);
        return change([&] { return dataset_.import_token_bin(name, block_tokens); });
    }

    void save() {
        change([&] {
            dataset_.save(SignalCheck());
            return 0;
        });
    }

    std::int64_t export_token_bin(const py::object& destination, std::int64_t max_tokens) {
        const std::string name = to_path(destination);
        return locked([&] { return dataset_.export_token_bin(name, max_tokens, SignalCheck()); });
    }

    py::array_t<std::uint32_t> collect(std::int64_t max_tokens) {
        return to_array(locked([&] { return dataset_.collect(max_tokens); }));
    }

    std::string path() {
        return locked([&] { return dataset_.path(); });
    }
    py::str name() {
        return to_text(locked([&] { return dataset_.name(); }));
    }
    std::int64_t block_count() {
        return locked([&] { return dataset_.block_count(); });
    }
    std::int64_t token_count() {
        return locked([&] { return dataset_.token_count(); });
    }
    bool has_unsaved() {
        return locked([&] { return dataset_.has_unsaved(); });
    }

    // --- for iterators: changes end them, because what they look at may be gone
    struct Block {
        std::uint64_t id = 0;
        std::vector<std::uint32_t> tokens;
        std::string text;
    };
    std::uint64_t version() {
        return locked([&] { return version_; });
    }
    data::WdbxTokenDataset::Cursor cursor() {
        return locked([&] { return data::WdbxTokenDataset::Cursor(dataset_); });
    }
    bool next(data::WdbxTokenDataset::Cursor& cursor, std::uint64_t version, Block& block) {
        return locked([&] {
            TEMPRA_CHECK(Error, version == version_, "{}: the dataset changed during iteration",
                         dataset_.path());
            data::WdbxTokenDataset::Block found;
            if (!cursor.next(found)) return false;
            block.id = found.id;
            block.tokens.resize(static_cast<size_t>(found.token_count));
            data::copy_tokens(found.tokens, found.dtype, 0, block.tokens);
            block.text = found.text;
            return true;
        });
    }

  private:
    std::mutex mutex_;
    std::uint64_t version_ = 0;
    data::WdbxTokenDataset dataset_;
};

class BlockIterator {
  public:
    explicit BlockIterator(std::shared_ptr<DatasetHandle> dataset)
        : dataset_(std::move(dataset)),
          version_(dataset_->version()),
          cursor_(dataset_->cursor()) {}

    py::tuple next() {
        DatasetHandle::Block block;
        if (!dataset_->next(cursor_, version_, block)) throw py::stop_iteration();
        const py::object text = block.text.empty() ? py::object(py::none()) : to_text(block.text);
        return py::make_tuple(block.id, to_array(block.tokens), text);
    }

  private:
    std::shared_ptr<DatasetHandle> dataset_;
    std::uint64_t version_;
    data::WdbxTokenDataset::Cursor cursor_;
};

// --- what a file holds ----------------------------------------------------------------------

py::dict describe_bloom_filter(const data::WdbxFile& file, const data::WdbxSection& section) {
    const data::BloomFilter filter = data::parse_bloom_filter(file.bytes(section), file.path());
    for (const data::IdRun& run : file.layout().ids.runs()) {
        for (std::uint64_t id = run.first;; ++id) {
            TEMPRA_CHECK(FormatError, filter.may_contain(id),
                         "{}: InvalidBloomFilter: it denies id {}, which is there", file.path(),
                         id);
            if (id == run.last) break;
        }
    }
    py::dict found;
    found["probes"] = filter.probes;
    found["bits"] = 8 * filter.bits.size();
    return found;
}

py::dict describe_vector_index(const data::WdbxFile& file, const data::WdbxSection& section) {
    const data::WdbxVectorIndex index =
        data::parse_wdbx_vector_index(file.bytes(section), file.path());
    py::dict found;
    found["nodes"] = index.begins.size() - 1;
    found["neighbours"] = index.neighbours.size();
    found["entry_point"] = index.entry_point;
    found["max_layer"] = index.max_layer;
    return found;
}

py::dict describe_wdbx(const py::object& path) {
    const std::string name = to_path(path);
    const auto file = [&] {
        const py::gil_scoped_release unlocked;
        return data::WdbxFile(name);
    }();
    const data::WdbxLayout& layout = file.layout();
    py::list sections;
    for (const data::WdbxSection& section : layout.sections) {
        py::dict entry;
        entry["type"] = section.type;
        entry["offset"] = section.offset;
        entry["length"] = section.length;
        sections.append(entry);
    }
    py::dict found;
    found["version"] = layout.header.version;
    found["name"] = to_text(layout.name);
    found["bytes"] = file.size();
    found["flags"] = layout.header.flags;
    found["records"] = layout.ids.count();
    found["dimension"] = layout.header.dimension;
    found["distance_metric"] = layout.header.distance_metric;
    found["compression"] = layout.header.compression;
    found["created_at"] = layout.header.created_at;
    found["modified_at"] = layout.header.modified_at;
    found["largest_id"] = layout.ids.largest();
    found["sections"] = sections;
    if (const auto* section = layout.find(data::wdbx_section::kBloomFilter)) {
        found["bloom_filter"] = describe_bloom_filter(file, *section);
    }
    if (const auto* section = layout.find(data::wdbx_section::kVectorIndex)) {
        found["vector_index"] = describe_vector_index(file, *section);
    }
    return found;
}

// --- records and checkpoints ----------------------------------------------------------------

// Floats as they lie in a mapped file that `owner` keeps open: read-only and not aligned.
py::array to_floats(std::span<const std::byte> bytes, const py::object& owner) {
    const auto count = static_cast<py::ssize_t>(bytes.size() / sizeof(float));
    py::array values(py::dtype("float32"), {count}, {}, bytes.data(), owner);
    py::detail::array_proxy(values.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return values;
}

template <class Held>
py::capsule to_owner(std::unique_ptr<Held> held) {
    return py::capsule(held.release(), [](void* file) { delete static_cast<Held*>(file); });
}

// Walks the records of any container.
class RecordIterator {
  public:
    explicit RecordIterator(const py::object& path)
        : RecordIterator([name = to_path(path)] {
              const py::gil_scoped_release unlocked;
              return std::make_unique<data::WdbxFile>(name);
          }()) {}

    py::tuple next() {
        data::WdbxRecord record;
        if (!cursor_.next(record)) throw py::stop_iteration();
        return py::make_tuple(record.id, to_floats(record.vector, owner_),
                              py::bytes(reinterpret_cast<const char*>(record.metadata.data()),
                                        record.metadata.size()));
    }

  private:
    explicit RecordIterator(std::unique_ptr<data::WdbxFile> file)
        : cursor_(file->records()), owner_(to_owner(std::move(file))) {}

    data::WdbxRecordCursor cursor_;
    py::capsule owner_;
};

py::dict read_abi_checkpoint(const py::object& path) {
    auto file = std::make_unique<data::AbiCheckpointFile>(to_path(path));
    const data::AbiCheckpoint contents = file->contents();
    const py::capsule owner = to_owner(std::move(file));
    py::dict found;
    found["format"] = contents.has_moments ? "ABLC" : "ABIC";
    found["step"] = contents.step;
    found["timestamp"] = contents.timestamp;
    found["weights"] = to_floats(contents.weights, owner);
    if (contents.has_moments) {
        found["epoch"] = contents.epoch;
        found["tokens_processed"] = contents.tokens_processed;
        found["first_moments"] = to_floats(contents.first_moments, owner);
        found["second_moments"] = to_floats(contents.second_moments, owner);
    }
    return found;
}

void bind_conversions(py::module_& module) {
    module.def(
        "token_bin_to_wdbx",
        [](const py::object& source, const py::object& destination, std::int64_t block_tokens,
           const std::string& mode) {
            const std::string from = to_path(source), to = to_path(destination);
            const data::ExistingFile existing = to_existing(mode);
            const py::gil_scoped_release unlocked;
            return data::token_bin_to_wdbx(from, to, block_tokens, existing, SignalCheck());
        },
        py::arg("source"), py::arg("destination"),
        py::arg("block_tokens") = data::kDefaultBlockTokens, py::kw_only(),
        py::arg("mode") = "fail", "Writes a token-bin as a WDBX token dataset; how many tokens.");
    module.def(
        "wdbx_to_token_bin",
        [](const py::object& source, const py::object& destination, std::int64_t max_tokens) {
            const std::string from = to_path(source), to = to_path(destination);
            const py::gil_scoped_release unlocked;
            return data::wdbx_to_token_bin(from, to, max_tokens, SignalCheck());
        },
        py::arg("source"), py::arg("destination"), py::arg("max_tokens") = 0,
        "Writes the tokens of a WDBX token dataset as a token-bin; how many tokens.");
}

void bind_dataset(py::module_& module) {
    py::class_<BlockIterator>(module, "WdbxBlockIterator",
                              "Blocks of a dataset: id, tokens, text or None.")
        .def("__iter__", [](const py::object& self) { return self; })
        .def("__next__", &BlockIterator::next);
    py::class_<DatasetHandle, std::shared_ptr<DatasetHandle>>(
        module, "WdbxTokenDataset", "Blocks of tokens in a WDBX file, and those appended to it.")
        .def(py::init<const py::object&>(), py::arg("path"))
        .def_property_readonly("path", &DatasetHandle::path)
        .def_property_readonly("name", &DatasetHandle::name)
        .def_property_readonly("block_count", &DatasetHandle::block_count)
        .def_property_readonly("token_count", &DatasetHandle::token_count)
        .def_property_readonly("has_unsaved", &DatasetHandle::has_unsaved)
        .def("append", &DatasetHandle::append, py::arg("tokens"), py::arg("text") = py::none(),
             "Adds one block; its id.")
        .def("import_token_bin", &DatasetHandle::import_token_bin, py::arg("source"),
             py::arg("block_tokens") = data::kDefaultBlockTokens,
             "Adds the tokens of a file, which must stay as it is until `save`; how many.")
        .def("export_token_bin", &DatasetHandle::export_token_bin, py::arg("destination"),
             py::arg("max_tokens") = 0, "Writes the tokens as a token-bin; how many.")
        .def("collect", &DatasetHandle::collect, py::arg("max_tokens") = 0,
             "All tokens, or the first `max_tokens`, as an array.")
        .def("save", &DatasetHandle::save, "Writes the file, whole or not at all.")
        .def("__iter__",
             [](const std::shared_ptr<DatasetHandle>& self) { return BlockIterator(self); });
}

}  // namespace

void bind_wdbx(py::module_& module) {
    bind_conversions(module);
    bind_dataset(module);
    module.def("describe_wdbx", &describe_wdbx, py::arg("path"),
               "What a WDBX file holds, every checksum and structure verified.");
    py::class_<RecordIterator>(module, "WdbxRecordIterator",
                               "Records of a WDBX file: id, vector and bytes of metadata.")
        .def(py::init<const py::object&>(), py::arg("path"))
        .def("__iter__", [](const py::object& self) { return self; })
        .def("__next__", &RecordIterator::next);
    module.def("read_abi_checkpoint", &read_abi_checkpoint, py::arg("path"),
               "Counters of an ABIC or ABLC file, and its flat arrays mapped from it.");
}

}  // namespace tempra::python
