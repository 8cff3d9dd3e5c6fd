// A whole file mapped read-only.
#pragma once

#include <cstdint>
#include <string>

namespace tempra::platform {

// The size is taken once, when the file is opened. A file that another process shortens
// afterwards kills this one with SIGBUS on the next touch of a missing page: no reader of mapped
// memory can prevent that. Our own writers never shorten a file in place; they replace it, which
// leaves existing mappings whole.
class MappedFile {
  public:
    explicit MappedFile(const std::string& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] const std::byte* data() const noexcept { return data_; }  // null when empty
    [[nodiscard]] std::int64_t size() const noexcept { return size_; }

  private:
    std::string path_;
    const std::byte* data_ = nullptr;
    std::int64_t size_ = 0;
};

// Lets go of the pages of mapped file content that lie whole in this memory: they are read again
// when touched. Only for read-only mappings of files; other memory would lose its content.
void release_mapped_pages(const void* data, std::int64_t size) noexcept;

}  // namespace tempra::platform
