#include "platform/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "platform/files.h"

namespace tempra::platform {

MappedFile::MappedFile(const std::string& path) : path_(path) {
    const File file = File::open_for_reading(path);
    size_ = file.size();
    if (size_ == 0) return;  // an empty range cannot be mapped
    void* address =
        mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (address == MAP_FAILED) {
        const int error_number = errno;
        throw IoError(format("map {} ({} bytes): {}", path, size_,
                             std::generic_category().message(error_number)),
                      error_number);
    }
    data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

void release_mapped_pages(const void* data, std::int64_t size) noexcept {
    const auto page = static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
    // Bytes up to the first whole page: the mapping itself starts at one.
    const auto before = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) %
                                                  static_cast<std::uintptr_t>(page));
    const std::int64_t skipped = (page - before) % page;
    const std::int64_t length = (size - skipped) / page * page;
    if (length <= 0) return;
    // Advice only: where it fails, memory stays resident and nothing else changes.
    auto* first = static_cast<std::byte*>(const_cast<void*>(data)) + skipped;
    (void)madvise(first, static_cast<size_t>(length), MADV_DONTNEED);
}

}  // namespace tempra::platform
