// Safetensors files: named tensors in one file, read through a memory mapping.
//
// Layout: u64 length of the header; the header, a JSON object of at most 100 MB; the data section.
// The tensors' byte ranges must tile the data section: no hole, no overlap, nothing left over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tempra/dtype.h"
#include "tempra/io/atomic_file.h"
#include "tempra/shape.h"

namespace tempra::io {

struct SafetensorsEntry {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
    std::int64_t begin = 0, end = 0;  // byte range within the data section
};

struct SafetensorsIndex {
    std::vector<SafetensorsEntry> entries;  // in order of their ranges
    std::map<std::string, std::string> metadata;
    std::int64_t data_offset = 0;  // of the data section within the file
};

// Checks everything about `size` bytes of a file; FormatError names `source` and the tensor.
[[nodiscard]] SafetensorsIndex parse_safetensors(const void* data, std::int64_t size,
                                                 const std::string& source);

// An open file. Data is read when it is touched. A file that another process shortens while it is
// open makes that touch fatal (SIGBUS); files written by this library are replaced, not rewritten.
class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::string& path);
    ~SafetensorsFile();
    SafetensorsFile(SafetensorsFile&&) noexcept;
    SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

    [[nodiscard]] const std::string& path() const noexcept;
    [[nodiscard]] const std::vector<SafetensorsEntry>& entries() const noexcept;
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept;
    // Null when there is no tensor of that name.
    [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const;
    // FormatError that lists near names when there is none.
    [[nodiscard]] const SafetensorsEntry& at(std::string_view name) const;
    // Valid while this object lives. Row-major; not necessarily aligned to the element.
    [[nodiscard]] std::span<const std::byte> data(const SafetensorsEntry& entry) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// Takes the next piece of a tensor's bytes.
using ByteSink = std::function<void(const void* data, std::int64_t size)>;

// One tensor to write: `data` points to its row-major bytes, or `produce` hands them out piece by
// piece, in order.
struct SafetensorsInput {
    std::string name;
    DType dtype = DType::f32;
    Shape shape;
    const void* data = nullptr;
    std::function<void(const ByteSink&)> produce;
};

// Writes the file whole or not at all (AtomicFile). Tensors are ordered as by the safetensors
// library: wider dtypes first, then by name; equal input gives equal bytes.
WrittenFile write_safetensors(const std::string& path, std::vector<SafetensorsInput> tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace tempra::io
