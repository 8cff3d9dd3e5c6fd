#include "tempra/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "io/json_header.h"
#include "platform/mapped_file.h"
#include "tempra/error.h"

namespace tempra::io {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMaxHeaderBytes = 100'000'000;
constexpr std::int64_t kAlignment = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

struct DTypeName {
    std::string_view name;
    DType dtype;
};
// Written in this order, the safetensors library's own (it sorts its dtypes, widest first).
constexpr DTypeName kDTypes[] = {
    {"I64", DType::i64}, {"F64", DType::f64},      {"F32", DType::f32}, {"U32", DType::u32},
    {"I32", DType::i32}, {"BF16", DType::bf16},    {"F16", DType::f16}, {"U16", DType::u16},
    {"U8", DType::u8},   {"BOOL", DType::boolean},
};
constexpr std::string_view kOtherDTypes[] = {
    "U64",     "C64",     "I16",     "I8", "F8_E4M3",     "F8_E5M2",
    "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
};

int write_order(DType dtype) {
    int order = 0;
    while (kDTypes[order].dtype != dtype) ++order;
    return order;
}

// Reads the header of one file.
class HeaderParser {
  public:
    HeaderParser(std::string_view header, const std::string& source)
        : source_(source), reader_(header, source, {kMaxHeaderBytes, 4}) {}

    void read(SafetensorsIndex& index) {
        reader_.begin_object();
        for (std::string key; reader_.next_key(key);) {
            if (key == kMetadataKey) {
                read_metadata(index.metadata);
            } else {
                index.entries.push_back(read_entry(key));
            }
        }
        reader_.finish();
    }

  private:
    void read_metadata(std::map<std::string, std::string>& metadata) {
        reader_.begin_object();
        for (std::string key; reader_.next_key(key);) metadata[key] = reader_.read_string();
    }

    SafetensorsEntry read_entry(const std::string& name) {
        SafetensorsEntry entry;
        entry.name = name;
        bool has_dtype = false, has_shape = false, has_offsets = false;
        if (reader_.peek() != JsonType::object) fail(name, "an object is needed");
        reader_.begin_object();
        for (std::string key; reader_.next_key(key);) {
            if (key == "dtype") {
                entry.dtype = read_dtype(name);
                has_dtype = true;
            } else if (key == "shape") {
                entry.shape = read_shape(name);
                has_shape = true;
            } else if (key == "data_offsets") {
                read_offsets(entry);
                has_offsets = true;
            } else {
                fail(name, format("unknown key {}", quoted_name(key)));
            }
        }
        if (!has_dtype) fail(name, "\"dtype\" is missing");
        if (!has_shape) fail(name, "\"shape\" is missing");
        if (!has_offsets) fail(name, "\"data_offsets\" is missing");
        check_size(entry);
        return entry;
    }

    DType read_dtype(const std::string& name) {
        const std::string text = reader_.read_string();
        for (const DTypeName& known : kDTypes) {
            if (known.name == text) return known.dtype;
        }
        const bool exists = std::find(std::begin(kOtherDTypes), std::end(kOtherDTypes), text) !=
                            std::end(kOtherDTypes);
        fail(name, format("{} dtype {}; F64 F32 F16 BF16 I64 I32 U32 U16 U8 and BOOL can be read",
                          exists ? "unsupported" : "unknown", quoted_name(text)));
    }

    Shape read_shape(const std::string& name) {
        Shape shape;
        reader_.begin_array();
        while (reader_.next_element()) {
            const std::int64_t size = reader_.read_integer();
            if (size < 0) fail(name, format("negative size {} in its shape", size));
            if (shape.dimensions() == kMaxDimensions) {
                fail(name, format("more than {} dimensions", kMaxDimensions));
            }
            shape.push_back(size);
        }
        return shape;
    }

    void read_offsets(SafetensorsEntry& entry) {
        std::int64_t offsets[2] = {0, 0};
        int count = 0;
        reader_.begin_array();
        while (reader_.next_element()) {
            if (count == 2) fail(entry.name, "more than two data_offsets");
            offsets[count++] = reader_.read_integer();
        }
        if (count != 2 || offsets[0] < 0 || offsets[1] < offsets[0]) {
            fail(entry.name, "data_offsets must be [begin, end] with 0 <= begin <= end");
        }
        entry.begin = offsets[0];
        entry.end = offsets[1];
    }

    void check_size(const SafetensorsEntry& entry) {
        std::int64_t bytes = size_of(entry.dtype);
        for (const std::int64_t size : entry.shape) {
            if (__builtin_mul_overflow(bytes, size, &bytes)) {
                fail(entry.name, format("shape {} overflows", entry.shape));
            }
        }
        if (entry.end - entry.begin != bytes) {
            fail(entry.name, format("{} of shape {} needs {} bytes, data_offsets give {}",
                                    entry.dtype, entry.shape, bytes, entry.end - entry.begin));
        }
    }

    [[noreturn]] void fail(const std::string& name, std::string_view message) const {
        throw FormatError(format("{}: tensor {}: {}", source_, quoted_name(name), message));
    }

    const std::string& source_;
    JsonReader reader_;
};

void check_tiling(const SafetensorsIndex& index, std::int64_t data_bytes,
                  const std::string& source) {
    std::int64_t expected = 0;
    for (const SafetensorsEntry& entry : index.entries) {
        TEMPRA_CHECK(
            FormatError, entry.begin == expected,
            "{}: tensor {}: its data begins at byte {}, {} the previous tensor's end at {}", source,
            quoted_name(entry.name), entry.begin,
            entry.begin < expected ? "before" : "leaving a hole after", expected);
        TEMPRA_CHECK(FormatError, entry.end <= data_bytes,
                     "{}: tensor {}: its data ends at byte {} of a data section of {} bytes; the "
                     "file is cut short",
                     source, quoted_name(entry.name), entry.end, data_bytes);
        expected = entry.end;
    }
    TEMPRA_CHECK(FormatError, expected == data_bytes,
                 "{}: {} bytes after the last tensor belong to none", source,
                 data_bytes - expected);
}

std::string_view dtype_name(DType dtype) { return kDTypes[write_order(dtype)].name; }

[[noreturn]] void fail_writing(const std::string& path, const std::string& name,
                               std::string_view message) {
    throw FormatError(format("write {}: tensor {}: {}", path, quoted_name(name), message));
}

void check_name(const std::string& path, const std::string& name) {
    if (name == kMetadataKey) fail_writing(path, name, "this name is reserved");
    if (find_invalid_utf8(name) != std::string_view::npos) {
        fail_writing(path, name, "the name is not valid UTF-8");
    }
}

std::int64_t byte_count(const std::string& path, const SafetensorsInput& tensor) {
    std::int64_t bytes = size_of(tensor.dtype);
    for (const std::int64_t size : tensor.shape) {
        if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
            fail_writing(path, tensor.name,
                         format("shape {} is negative or overflows", tensor.shape));
        }
    }
    return bytes;
}

void append_metadata(std::string& header, const std::string& path,
                     const std::map<std::string, std::string>& metadata) {
    append_json_string(header, kMetadataKey);
    header += ":{";
    const char* separator = "";
    for (const auto& [key, value] : metadata) {
        TEMPRA_CHECK(FormatError,
                     find_invalid_utf8(key) == std::string_view::npos &&
                         find_invalid_utf8(value) == std::string_view::npos,
                     "write {}: metadata {} is not valid UTF-8", path, quoted_name(key));
        header += separator;
        append_json_string(header, key);
        header += ':';
        append_json_string(header, value);
        separator = ",";
    }
    header += '}';
}

// Header with its padding; `tensors` are sorted.
std::string make_header(const std::string& path, const std::vector<SafetensorsInput>& tensors,
                        const std::map<std::string, std::string>& metadata) {
    std::string header = "{";
    if (!metadata.empty()) append_metadata(header, path, metadata);
    std::int64_t offset = 0;
    for (const SafetensorsInput& tensor : tensors) {
        if (header.size() > 1) header += ',';
        append_json_string(header, tensor.name);
        header += format(R"(:{"dtype":"{}","shape":[)", dtype_name(tensor.dtype));
        const char* separator = "";
        for (const std::int64_t size : tensor.shape) {
            header += separator;
            header += std::to_string(size);
            separator = ",";
        }
        const std::int64_t begin = offset;
        if (__builtin_add_overflow(offset, byte_count(path, tensor), &offset)) {
            fail_writing(path, tensor.name, "the file's size overflows");
        }
        header += format(R"(],"data_offsets":[{},{}]})", begin, offset);
    }
    header += '}';
    while (header.size() % kAlignment != 0) header += ' ';
    TEMPRA_CHECK(FormatError, static_cast<std::int64_t>(header.size()) <= kMaxHeaderBytes,
                 "write {}: the header takes {} bytes, at most {} are allowed", path, header.size(),
                 kMaxHeaderBytes);
    return header;
}

void write_tensor(AtomicFile& file, const std::string& path, const SafetensorsInput& tensor) {
    const std::int64_t wanted = byte_count(path, tensor);
    if (!tensor.produce) {
        if (wanted > 0 && tensor.data == nullptr) fail_writing(path, tensor.name, "no data given");
        file.write(tensor.data, wanted);
        return;
    }
    std::int64_t given = 0;
    tensor.produce([&](const void* data, std::int64_t size) {
        given += size;
        if (given > wanted) {
            fail_writing(path, tensor.name, format("more than its {} bytes produced", wanted));
        }
        file.write(data, size);
    });
    if (given != wanted) {
        fail_writing(path, tensor.name, format("{} of {} bytes produced", given, wanted));
    }
}

}  // namespace

SafetensorsIndex parse_safetensors(const void* data, std::int64_t size, const std::string& source) {
    TEMPRA_CHECK(FormatError, size >= kLengthBytes,
                 "{}: {} bytes are too few for a safetensors file", source, size);
    std::uint64_t length = 0;
    std::memcpy(&length, data, sizeof length);
    TEMPRA_CHECK(FormatError, length <= static_cast<std::uint64_t>(kMaxHeaderBytes),
                 "{}: a header of {} bytes announced, at most {} are allowed; not a safetensors "
                 "file?",
                 source, length, kMaxHeaderBytes);
    const auto header_bytes = static_cast<std::int64_t>(length);
    TEMPRA_CHECK(FormatError, header_bytes <= size - kLengthBytes,
                 "{}: a header of {} bytes announced, the file has {} left; the file is cut short",
                 source, header_bytes, size - kLengthBytes);
    const std::string_view header(static_cast<const char*>(data) + kLengthBytes,
                                  static_cast<size_t>(header_bytes));
    TEMPRA_CHECK(FormatError, header.starts_with('{'),
                 "{}: the header does not begin with '{'; not a safetensors file?", source);
    SafetensorsIndex index;
    HeaderParser(header, source).read(index);
    index.data_offset = kLengthBytes + header_bytes;
    std::sort(index.entries.begin(), index.entries.end(), [](const auto& a, const auto& b) {
        return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    check_tiling(index, size - index.data_offset, source);
    return index;
}

struct SafetensorsFile::State {
    explicit State(const std::string& path)
        : file(path), index(parse_safetensors(file.data(), file.size(), path)) {
        for (const SafetensorsEntry& entry : index.entries) by_name.emplace(entry.name, &entry);
    }

    platform::MappedFile file;
    SafetensorsIndex index;
    std::unordered_map<std::string_view, const SafetensorsEntry*> by_name;
};

SafetensorsFile::SafetensorsFile(const std::string& path) : state_(std::make_unique<State>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const noexcept { return state_->file.path(); }
const std::vector<SafetensorsEntry>& SafetensorsFile::entries() const noexcept {
    return state_->index.entries;
}
const std::map<std::string, std::string>& SafetensorsFile::metadata() const noexcept {
    return state_->index.metadata;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
    const auto found = state_->by_name.find(name);
    return found == state_->by_name.end() ? nullptr : found->second;
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
    const SafetensorsEntry* entry = find(name);
    TEMPRA_CHECK(FormatError, entry != nullptr, "{}: no tensor {} among its {}", path(),
                 quoted_name(name), entries().size());
    return *entry;
}

std::span<const std::byte> SafetensorsFile::data(const SafetensorsEntry& entry) const {
    return {state_->file.data() + state_->index.data_offset + entry.begin,
            static_cast<size_t>(entry.end - entry.begin)};
}

WrittenFile write_safetensors(const std::string& path, std::vector<SafetensorsInput> tensors,
                              const std::map<std::string, std::string>& metadata) {
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
        return std::pair(write_order(a.dtype), std::string_view(a.name)) <
               std::pair(write_order(b.dtype), std::string_view(b.name));
    });
    std::unordered_set<std::string_view> names;
    for (const SafetensorsInput& tensor : tensors) {
        check_name(path, tensor.name);
        if (!names.insert(tensor.name).second) fail_writing(path, tensor.name, "given twice");
    }
    const std::string header = make_header(path, tensors, metadata);
    const auto length = static_cast<std::uint64_t>(header.size());
    AtomicFile file(path);
    file.write(&length, sizeof length);
    file.write(header.data(), static_cast<std::int64_t>(header.size()));
    for (const SafetensorsInput& tensor : tensors) write_tensor(file, path, tensor);
    return file.commit();
}

}  // namespace tempra::io
