// Every operating-system call on files and folders. Failures raise IoError with the operation, the
// path and the system's reason, e.g. "write /runs/a/model.safetensors: No space left on device".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tempra/error.h"

namespace tempra::platform {

// An open file descriptor; closed (errors ignored) when destroyed.
class File {
  public:
    [[nodiscard]] static File open_for_reading(const std::string& path);
    // Creates or empties the file.
    [[nodiscard]] static File create(const std::string& path);
    // Fails when the path exists.
    [[nodiscard]] static File create_new(const std::string& path);

    File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(other.descriptor_) {
        other.descriptor_ = -1;
    }
    File& operator=(File&& other) noexcept;
    ~File();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    // IoError unless it is a regular file.
    [[nodiscard]] std::int64_t size() const;

    // Reads up to `size` bytes, fewer only at the end of the file.
    [[nodiscard]] std::int64_t read(void* data, std::int64_t size);
    void write(const void* data, std::int64_t size);  // all of it
    // All of several pieces, one after the other; counted as one operation.
    void write_gathered(std::span<const std::span<const std::byte>> pieces);
    // Overwrites what is there; later calls of write go on where they were.
    void write_at(std::int64_t offset, const void* data, std::int64_t size);
    void sync();
    void close();  // reports errors; the descriptor is gone afterwards in any case

  private:
    File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
    static File open(const std::string& path, int flags, const char* operation);

    std::string path_;
    int descriptor_;
};

// An exclusive advisory lock (flock), held until destroyed or the process ends. The file stays. A
// child forked meanwhile shares the lock and keeps it while it lives.
class FileLock {
  public:
    // Empty when another process (or another FileLock of this one) holds it.
    [[nodiscard]] static std::optional<FileLock> try_acquire(const std::string& path);

  private:
    explicit FileLock(File file) : file_(std::move(file)) {}
    File file_;
};

struct DirectoryEntry {
    std::string name;
    bool is_directory = false;  // links are not followed
};

[[nodiscard]] bool exists(const std::string& path);
[[nodiscard]] bool is_directory(const std::string& path);
[[nodiscard]] std::vector<DirectoryEntry> list_directory(const std::string& path);  // by name
void make_directories(const std::string& path);                                     // mkdir -p
void rename_path(const std::string& from, const std::string& to);
void remove_file(const std::string& path);  // an absent one is fine
void remove_tree(const std::string& path);  // a file or a whole folder; an absent one is fine
void sync_directory(const std::string& path);
// Bytes that this user may still write on the file system of `path`.
[[nodiscard]] std::int64_t free_space(const std::string& path);
// Folder part of a path; "." where there is none.
[[nodiscard]] std::string parent_directory(const std::string& path);
[[nodiscard]] std::string file_name(const std::string& path);

// --- fault injection, for tests -------------------------------------------------------------
// Counted operations: opening for writing, writing, syncing (files and folders), closing after
// writing, renaming, making a folder. Removing is not counted: cleaning up must be possible.

struct WriteFault {
    std::int64_t operation = 0;  // which counted operation from now fails, from 1; 0: none
    int error_number = 0;
    bool short_write = false;  // a failing write first writes half of its bytes
    bool persistent = false;   // every later operation fails as well, as on a full disk
};
// Process-wide; starts the count again.
void set_write_fault(const WriteFault& fault);
// Counted operations since set_write_fault (or the start of the process).
[[nodiscard]] std::int64_t write_operation_count();

}  // namespace tempra::platform
