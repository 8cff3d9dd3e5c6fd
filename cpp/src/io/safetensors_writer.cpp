// Writing safetensors files, byte for byte as the safetensors library does.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "io/json_reader.h"
#include "io/safetensors_format.h"
#include "tempra/error.h"
#include "tempra/io/safetensors.h"

namespace tempra::io {

namespace {

constexpr std::int64_t kAlignment = 8;

int write_order(DType dtype) {
    int order = 0;
    while (kSafetensorsDTypes[order].dtype != dtype) ++order;
    return order;
}

std::string_view dtype_name(DType dtype) { return kSafetensorsDTypes[write_order(dtype)].name; }

[[noreturn]] void fail_writing(const std::string& path, const std::string& name,
                               std::string_view message) {
    throw FormatError(format("write {}: tensor {}: {}", path, quoted_name(name), message));
}

void check_name(const std::string& path, const std::string& name) {
    if (name == kSafetensorsMetadataKey) fail_writing(path, name, "this name is reserved");
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
    append_json_string(header, kSafetensorsMetadataKey);
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
    TEMPRA_CHECK(FormatError,
                 static_cast<std::int64_t>(header.size()) <= kSafetensorsMaxHeaderBytes,
                 "write {}: the header takes {} bytes, at most {} are allowed", path, header.size(),
                 kSafetensorsMaxHeaderBytes);
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
