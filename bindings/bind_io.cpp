// Files: safetensors, token-bin, atomic writing, checksums, locks, and faults for tests.
#include <pybind11/numpy.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "bindings.h"
#include "platform/files.h"
#include "tempra/data/token_bin.h"
#include "tempra/error.h"
#include "tempra/io/atomic_file.h"
#include "tempra/io/crc32.h"
#include "tempra/io/safetensors.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"

namespace tempra::python {

std::string to_path(const py::object& path) {
    PyObject* encoded = nullptr;
    if (PyUnicode_FSConverter(path.ptr(), &encoded) == 0) throw py::error_already_set();
    return py::reinterpret_steal<py::bytes>(encoded);
}

TokenArray to_token_array(const py::array& tokens, const std::string& source) {
    const char kind = tokens.dtype().kind();
    TEMPRA_CHECK(DtypeError, kind == 'i' || kind == 'u',
                 "{}: tokens of dtype {} given, an integer array needed", source,
                 py::str(tokens.dtype()).cast<std::string>());
    if (tokens.size() > 0 && kind == 'i') {
        const auto smallest = tokens.attr("min")().cast<std::int64_t>();
        TEMPRA_CHECK(FormatError, smallest >= 0, "{}: negative token {}", source, smallest);
    }
    if (tokens.size() > 0 && tokens.itemsize() > 4) {
        const auto largest = tokens.attr("max")().cast<std::uint64_t>();
        TEMPRA_CHECK(FormatError, largest <= 0xFFFFFFFF, "{}: token {} does not fit u32", source,
                     largest);
    }
    return TokenArray(tokens);
}

namespace {

py::tuple to_tuple(const io::WrittenFile& written) {
    return py::make_tuple(written.bytes, written.crc32);
}

// The bytes of any object with the buffer protocol.
class Bytes {
  public:
    explicit Bytes(const py::object& object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) {
            throw py::error_already_set();
        }
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;

    [[nodiscard]] const void* data() const { return view_.buf; }
    [[nodiscard]] std::int64_t size() const { return view_.len; }

  private:
    Py_buffer view_{};
};

// --- safetensors ----------------------------------------------------------------------------

// The tensor shares the mapping, which lives as long as it does. Data that lies across its
// elements' alignment, which other writers allow, is copied.
Tensor map_tensor(const std::shared_ptr<io::SafetensorsFile>& file,
                  const io::SafetensorsEntry& entry) {
    const std::span<const std::byte> bytes = file->data(entry);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    if (bytes.empty() || address % static_cast<std::uintptr_t>(size_of(entry.dtype)) != 0) {
        const Tensor copy = empty(entry.shape, entry.dtype);
        if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
        return copy;
    }
    return from_memory(
        const_cast<std::byte*>(bytes.data()), entry.shape, contiguous_strides(entry.shape),
        entry.dtype, [file] {}, false);
}

py::tuple read_safetensors(const py::object& path) {
    const std::string name = to_path(path);
    std::shared_ptr<io::SafetensorsFile> file;
    {
        const py::gil_scoped_release unlocked;
        file = std::make_shared<io::SafetensorsFile>(name);
    }
    py::dict tensors;
    for (const io::SafetensorsEntry& entry : file->entries()) {
        tensors[py::str(entry.name)] = map_tensor(file, entry);
    }
    return py::make_tuple(tensors, file->metadata());
}

py::tuple write_safetensors(const py::object& path, const std::map<std::string, Tensor>& tensors,
                            const std::optional<std::map<std::string, std::string>>& metadata) {
    const std::string name = to_path(path);
    std::vector<io::SafetensorsInput> inputs;
    for (const auto& [tensor_name, tensor] : tensors) {
        // Made contiguous, and brought from a device, one at a time, as each is written.
        const auto produce = [source = tensor.detach()](const io::ByteSink& sink) {
            const Tensor whole = to_device(contiguous(source), {});
            sink(whole.data(), whole.bytes());
        };
        inputs.push_back({tensor_name, tensor.dtype(), tensor.sizes(), nullptr, produce});
    }
    const py::gil_scoped_release unlocked;
    const io::WrittenFile written = io::write_safetensors(
        name, std::move(inputs), metadata.value_or(std::map<std::string, std::string>{}));
    const py::gil_scoped_acquire locked;
    return to_tuple(written);
}

// --- token-bin ------------------------------------------------------------------------------

py::array read_token_bin(const py::object& path, DType dtype) {
    auto reader = std::make_unique<data::TokenBinReader>(to_path(path), dtype);
    const data::TokenBinReader& source = *reader;
    const py::capsule owner(reader.release(),
                            [](void* held) { delete static_cast<data::TokenBinReader*>(held); });
    const py::dtype element(dtype == DType::u16 ? "uint16" : "uint32");
    py::array array(element, {static_cast<py::ssize_t>(source.size())}, {}, source.data(), owner);
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return array;
}

class TokenBinWriterHandle {
  public:
    TokenBinWriterHandle(const py::object& path, DType dtype)
        : path_(to_path(path)), writer_(std::make_unique<data::TokenBinWriter>(path_, dtype)) {}

    void append(const py::array& tokens) {
        check_open();
        const TokenArray plain = to_token_array(tokens, path_);
        const std::span<const std::uint32_t> values(plain.data(),
                                                    static_cast<size_t>(plain.size()));
        const py::gil_scoped_release unlocked;
        writer_->append(values);
    }

    py::tuple finish() {
        check_open();
        const auto writer = std::move(writer_);
        const py::gil_scoped_release unlocked;
        const io::WrittenFile written = writer->commit();
        const py::gil_scoped_acquire locked;
        return to_tuple(written);
    }

    void discard() { writer_.reset(); }
    [[nodiscard]] bool is_open() const { return writer_ != nullptr; }
    [[nodiscard]] std::int64_t size() const { return writer_ == nullptr ? 0 : writer_->size(); }

  private:
    void check_open() const {
        TEMPRA_CHECK(Error, writer_ != nullptr, "{}: this writer is finished", path_);
    }

    std::string path_;
    std::unique_ptr<data::TokenBinWriter> writer_;
};

// --- locks and faults -----------------------------------------------------------------------

class FileLockHandle {
  public:
    explicit FileLockHandle(const py::object& path) {
        const std::string name = to_path(path);
        lock_ = platform::FileLock::try_acquire(name);
        if (!lock_) throw IoError(format("lock {}: in use by another process", name), EWOULDBLOCK);
    }
    void release() { lock_.reset(); }

  private:
    std::optional<platform::FileLock> lock_;
};

void bind_safetensors(py::module_& module) {
    module.def("read_safetensors", &read_safetensors, py::arg("path"),
               "Tensors (read-only, mapped from the file) and metadata of a safetensors file.");
    module.def("write_safetensors", &write_safetensors, py::arg("path"), py::arg("tensors"),
               py::arg("metadata") = py::none(),
               "Writes a safetensors file whole or not at all; its size and CRC-32.");
}

void bind_token_bin(py::module_& module) {
    module.def("read_token_bin", &read_token_bin, py::arg("path"), py::arg("dtype") = DType::u32,
               "Tokens of a file as a read-only array mapped from it; dtype u32 or u16.");
    py::class_<TokenBinWriterHandle>(module, "TokenBinWriter",
                                     "Writes a token-bin file in pieces; it appears, whole, when "
                                     "finished. Leaving its `with` block by an error discards it.")
        .def(py::init<const py::object&, DType>(), py::arg("path"), py::arg("dtype") = DType::u32)
        .def("append", &TokenBinWriterHandle::append, py::arg("tokens"),
             "Adds an array of integers; FormatError when one does not fit the dtype.")
        .def("finish", &TokenBinWriterHandle::finish, "Publishes the file; its size and CRC-32.")
        .def("discard", &TokenBinWriterHandle::discard, "Removes what was written.")
        .def("__len__", &TokenBinWriterHandle::size)
        .def("__enter__", [](const py::object& self) { return self; })
        .def("__exit__", [](TokenBinWriterHandle& self, const py::object& error_type,
                            const py::object& /*error*/, const py::object& /*traceback*/) {
            if (!self.is_open()) return;
            if (error_type.is_none()) {
                self.finish();
            } else {
                self.discard();
            }
        });
}

void bind_files(py::module_& module) {
    module.def(
        "write_file_atomic",
        [](const py::object& path, const py::object& data) {
            const std::string name = to_path(path);
            const Bytes bytes(data);
            io::WrittenFile written;
            {
                const py::gil_scoped_release unlocked;
                written = io::write_file(name, bytes.data(), bytes.size());
            }
            return to_tuple(written);
        },
        py::arg("path"), py::arg("data"),
        "Writes a file aside, syncs it and renames it into place; its size and CRC-32.");
    module.def(
        "publish_directory",
        [](const py::object& temporary, const py::object& final) {
            const std::string from = to_path(temporary);
            const std::string to = to_path(final);
            const py::gil_scoped_release unlocked;
            io::publish_directory(from, to);
        },
        py::arg("temporary"), py::arg("final"),
        "Syncs a finished folder and renames it into place. An existing one of that name is moved "
        "to final + '.replaced' first and removed afterwards.");
    module.def(
        "remove_stale_temporaries",
        [](const py::object& folder) { return io::remove_stale_temporaries(to_path(folder)); },
        py::arg("folder"), "Removes files left half-written by dead processes; how many.");
    module.def(
        "make_directories",
        [](const py::object& path) { platform::make_directories(to_path(path)); }, py::arg("path"),
        "Makes a folder and those above it; an existing one is fine.");
    module.def(
        "rename_path",
        [](const py::object& from, const py::object& to) {
            const std::string target = to_path(to);
            platform::rename_path(to_path(from), target);
            platform::sync_directory(platform::parent_directory(target));
        },
        py::arg("source"), py::arg("destination"), "Renames a file or folder, durably.");
    module.def(
        "remove_tree",
        [](const py::object& path) {
            const std::string name = to_path(path);
            const py::gil_scoped_release unlocked;
            platform::remove_tree(name);
        },
        py::arg("path"), "Removes a file or a whole folder; an absent one is fine.");
    module.def(
        "free_disk_bytes",
        [](const py::object& path) { return platform::free_space(to_path(path)); }, py::arg("path"),
        "Bytes that can still be written on the file system of `path`.");
    module.def(
        "crc32",
        [](const py::object& data, std::uint32_t previous) {
            const Bytes bytes(data);
            const py::gil_scoped_release unlocked;
            return io::crc32(bytes.data(), bytes.size(), previous);
        },
        py::arg("data"), py::arg("previous") = 0, "CRC-32 (zlib's) of bytes.");
    module.def(
        "crc32_file",
        [](const py::object& path) {
            const std::string name = to_path(path);
            const py::gil_scoped_release unlocked;
            return io::crc32_file(name);
        },
        py::arg("path"), "CRC-32 of a file's bytes.");
    py::class_<FileLockHandle>(module, "FileLock",
                               "Holds an exclusive lock on a file; IoError when it is in use.")
        .def(py::init<const py::object&>(), py::arg("path"))
        .def("release", &FileLockHandle::release, "Gives the lock up.")
        .def("__enter__", [](const py::object& self) { return self; })
        .def("__exit__", [](FileLockHandle& self, const py::args&) { self.release(); });
}

void bind_write_faults(py::module_& module) {
    module.def(
        "set_write_fault",
        [](std::int64_t after_operations, int error_number, bool short_write, bool persistent) {
            TEMPRA_CHECK(ConfigError, after_operations >= 0,
                         "set_write_fault: after_operations {} given, at least 0 needed",
                         after_operations);
            platform::set_write_fault(
                {after_operations + 1, error_number, short_write, persistent});
        },
        py::arg("after_operations"), py::arg("error_number"), py::arg("short_write") = false,
        py::arg("persistent") = false,
        "For tests: lets `after_operations` file operations succeed and fails the next one (and, "
        "if persistent, all that follow). Counted: create, write, sync, close, rename, make "
        "folder.");
    module.def(
        "clear_write_fault", [] { platform::set_write_fault({}); }, "Ends a fault.");
    module.def("write_operation_count", &platform::write_operation_count,
               "Counted operations since the last call of set_write_fault or clear_write_fault.");
}

}  // namespace

void bind_io(py::module_& module) {
    bind_safetensors(module);
    bind_token_bin(module);
    bind_files(module);
    bind_write_faults(module);
}

}  // namespace tempra::python
