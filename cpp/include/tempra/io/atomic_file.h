// Files and folders that appear whole or not at all, whatever fails and whenever the process dies.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tempra::io {

// Size and CRC-32 of what was written, as a manifest records them.
struct WrittenFile {
    std::int64_t bytes = 0;
    std::uint32_t crc32 = 0;
};

// Called now and then while a file is written; what it throws ends the writing as a failing disk
// would: the destination is untouched and nothing is left beside it.
using WriteCheck = std::function<void()>;

// Writes beside the destination and replaces it in `commit`. Until then, and when anything fails,
// the destination is untouched; destruction without commit removes the temporary. A destination
// that is a symbolic link is replaced by the file.
class AtomicFile {
  public:
    // Without a checksum, that of WrittenFile is 0.
    enum class Checksum { compute, skip };
    explicit AtomicFile(const std::string& path, Checksum checksum = Checksum::compute);
    ~AtomicFile();
    AtomicFile(AtomicFile&&) noexcept;
    AtomicFile& operator=(AtomicFile&&) noexcept;

    // Small pieces are gathered into larger writes.
    void write(const void* data, std::int64_t size);
    // The same without a copy, where the bytes stay as they are until `commit`.
    void write_borrowed(const void* data, std::int64_t size);
    // Overwrites zeros that were written before: for a header that says what follows it. The zeros
    // are not checked, but the checksum relies on them.
    void replace_zeros(std::int64_t offset, const void* data, std::int64_t size);
    [[nodiscard]] std::int64_t bytes_written() const noexcept;
    // Checksum of what was written so far.
    [[nodiscard]] std::uint32_t checksum() const noexcept;
    // Called before each write to the disk, and last before the rename.
    void set_check(WriteCheck check);
    // Syncs, renames and syncs the folder. Raises IoError; the object is then spent.
    WrittenFile commit();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

WrittenFile write_file(const std::string& path, const void* data, std::int64_t size);

// Removes what AtomicFile left in `folder` when its process was killed; returns how many. Files of
// processes that still run are left alone.
int remove_stale_temporaries(const std::string& folder);

// Suffix of the folder that `publish_directory` moves aside.
inline constexpr const char* kReplacedSuffix = ".replaced";

// Makes the finished folder `temporary` appear as `final` (same parent): syncs its files and
// folders, renames, syncs the parent. An existing `final` is first renamed to
// `final` + kReplacedSuffix and removed at the end; should the process die in between, that folder
// is complete and a loader that finds no `final` takes it. On failure `final` is put back, and
// `temporary` is left to the caller.
void publish_directory(const std::string& temporary, const std::string& final);

}  // namespace tempra::io
