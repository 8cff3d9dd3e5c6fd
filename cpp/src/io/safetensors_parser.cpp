// The header of a safetensors file: hostile until checked.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "io/json_reader.h"
#include "io/safetensors_format.h"
#include "tempra/error.h"
#include "tempra/io/safetensors.h"

namespace tempra::io {

namespace {

constexpr std::string_view kOtherDTypes[] = {
    "U64",     "C64",     "I16",     "I8", "F8_E4M3",     "F8_E5M2",
    "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
};

// Reads the header of one file.
class HeaderParser {
  public:
    HeaderParser(std::string_view header, const std::string& source)
        : source_(source), reader_(header, source, {kSafetensorsMaxHeaderBytes, 4}) {}

    void read(SafetensorsIndex& index) {
        reader_.begin_object();
        for (std::string key; reader_.next_key(key);) {
            if (key == kSafetensorsMetadataKey) {
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
        for (const SafetensorsDType& known : kSafetensorsDTypes) {
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

}  // namespace

SafetensorsIndex parse_safetensors(const void* data, std::int64_t size, const std::string& source) {
    TEMPRA_CHECK(FormatError, size >= kSafetensorsLengthBytes,
                 "{}: {} bytes are too few for a safetensors file", source, size);
    std::uint64_t length = 0;
    std::memcpy(&length, data, sizeof length);
    TEMPRA_CHECK(FormatError, length <= static_cast<std::uint64_t>(kSafetensorsMaxHeaderBytes),
                 "{}: a header of {} bytes announced, at most {} are allowed; not a safetensors "
                 "file?",
                 source, length, kSafetensorsMaxHeaderBytes);
    const auto header_bytes = static_cast<std::int64_t>(length);
    TEMPRA_CHECK(FormatError, header_bytes <= size - kSafetensorsLengthBytes,
                 "{}: a header of {} bytes announced, the file has {} left; the file is cut short",
                 source, header_bytes, size - kSafetensorsLengthBytes);
    const std::string_view header(static_cast<const char*>(data) + kSafetensorsLengthBytes,
                                  static_cast<size_t>(header_bytes));
    TEMPRA_CHECK(FormatError, header.starts_with('{'),
                 "{}: the header does not begin with '{'; not a safetensors file?", source);
    SafetensorsIndex index;
    HeaderParser(header, source).read(index);
    index.data_offset = kSafetensorsLengthBytes + header_bytes;
    std::sort(index.entries.begin(), index.entries.end(), [](const auto& a, const auto& b) {
        return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    check_tiling(index, size - index.data_offset, source);
    return index;
}

}  // namespace tempra::io
