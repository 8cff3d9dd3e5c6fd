#include "platform/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

namespace tempra::platform {

namespace {

std::string describe(int error_number) { return std::generic_category().message(error_number); }

[[noreturn]] void fail(const char* operation, const std::string& path, int error_number) {
    throw IoError(format("{} {}: {}", operation, path, describe(error_number)), error_number);
}

struct FaultState {
    std::atomic<std::int64_t> count{0};
    std::atomic<std::int64_t> operation{0};
    std::atomic<int> error_number{0};
    std::atomic<bool> short_write{false};
    std::atomic<bool> persistent{false};
};
FaultState fault_state;

// Counts one operation; the error number it must fail with, or 0.
int injected_fault() {
    const std::int64_t number = fault_state.count.fetch_add(1, std::memory_order_relaxed) + 1;
    const std::int64_t failing = fault_state.operation.load(std::memory_order_relaxed);
    if (failing == 0 || number < failing) return 0;
    if (number > failing && !fault_state.persistent.load(std::memory_order_relaxed)) return 0;
    return fault_state.error_number.load(std::memory_order_relaxed);
}

void check_fault(const char* operation, const std::string& path) {
    if (const int error_number = injected_fault(); error_number != 0) {
        fail(operation, path, error_number);
    }
}

// Repeats a system call that a signal interrupted.
template <class Call>
auto retry(const Call& call) {
    auto result = call();
    while (result == -1 && errno == EINTR) result = call();
    return result;
}

// Writes `size` bytes; `write_some(done, left)` is the system call. Counted as one operation.
template <class WriteSome>
void write_all(const std::string& path, std::int64_t size, const WriteSome& write_some) {
    const int injected = injected_fault();
    const bool cut_short = fault_state.short_write.load(std::memory_order_relaxed);
    const std::int64_t wanted = injected == 0 ? size : (cut_short ? size / 2 : 0);
    for (std::int64_t done = 0; done < wanted;) {
        const ssize_t count = retry([&] { return write_some(done, wanted - done); });
        if (count == -1) fail("write", path, errno);
        if (count == 0) fail("write", path, EIO);
        done += count;
    }
    if (injected != 0) fail("write", path, injected);
}

}  // namespace

void set_write_fault(const WriteFault& fault) {
    fault_state.operation.store(0, std::memory_order_relaxed);
    fault_state.count.store(0, std::memory_order_relaxed);
    fault_state.error_number.store(fault.error_number, std::memory_order_relaxed);
    fault_state.short_write.store(fault.short_write, std::memory_order_relaxed);
    fault_state.persistent.store(fault.persistent, std::memory_order_relaxed);
    fault_state.operation.store(fault.operation, std::memory_order_relaxed);
}

std::int64_t write_operation_count() { return fault_state.count.load(std::memory_order_relaxed); }

File File::open(const std::string& path, int flags, const char* operation) {
    if ((flags & O_ACCMODE) != O_RDONLY) check_fault(operation, path);
    const int descriptor = retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
    if (descriptor == -1) fail(operation, path, errno);
    return {path, descriptor};
}

File File::open_for_reading(const std::string& path) { return open(path, O_RDONLY, "open"); }

File File::create(const std::string& path) {
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, "create");
}

File File::create_new(const std::string& path) {
    return open(path, O_WRONLY | O_CREAT | O_EXCL, "create");
}

File& File::operator=(File&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

File::~File() {
    if (descriptor_ != -1) ::close(descriptor_);
}

std::int64_t File::size() const {
    struct stat status {};
    if (fstat(descriptor_, &status) == -1) fail("stat", path_, errno);
    if (S_ISDIR(status.st_mode)) fail("open", path_, EISDIR);
    if (!S_ISREG(status.st_mode)) {
        throw IoError(format("open {}: not a regular file", path_), EINVAL);
    }
    return status.st_size;
}

std::int64_t File::read(void* data, std::int64_t size) {
    std::int64_t done = 0;
    while (done < size) {
        const ssize_t count = retry([&] {
            return ::read(descriptor_, static_cast<char*>(data) + done,
                          static_cast<size_t>(size - done));
        });
        if (count == -1) fail("read", path_, errno);
        if (count == 0) break;
        done += count;
    }
    return done;
}

void File::write(const void* data, std::int64_t size) {
    write_all(path_, size, [&](std::int64_t done, std::int64_t left) {
        return ::write(descriptor_, static_cast<const char*>(data) + done,
                       static_cast<size_t>(left));
    });
}

void File::write_gathered(std::span<const std::span<const std::byte>> pieces) {
    constexpr size_t kMostPieces = 512;  // IOV_MAX is at least 1024 on Linux
    std::int64_t size = 0;
    for (const auto& piece : pieces) size += std::ssize(piece);
    size_t first = 0, skipped = 0;  // what was written: whole pieces, and bytes of the next
    write_all(path_, size, [&](std::int64_t /*done*/, std::int64_t left) {
        iovec vectors[kMostPieces];
        int count = 0;
        std::int64_t gathered = 0;
        for (size_t i = first; i < pieces.size() && count < static_cast<int>(kMostPieces); ++i) {
            const auto piece = pieces[i].subspan(i == first ? skipped : 0);
            const auto wanted = std::min(std::ssize(piece), left - gathered);
            vectors[count++] = {const_cast<std::byte*>(piece.data()), static_cast<size_t>(wanted)};
            gathered += wanted;
        }
        const ssize_t written = ::writev(descriptor_, vectors, count);
        for (auto rest = static_cast<size_t>(std::max<ssize_t>(written, 0)); rest > 0;) {
            const size_t take = std::min(rest, pieces[first].size() - skipped);
            rest -= take;
            skipped += take;
            if (skipped == pieces[first].size()) ++first, skipped = 0;
        }
        return written;
    });
}

void File::write_at(std::int64_t offset, const void* data, std::int64_t size) {
    write_all(path_, size, [&](std::int64_t done, std::int64_t left) {
        return ::pwrite(descriptor_, static_cast<const char*>(data) + done,
                        static_cast<size_t>(left), offset + done);
    });
}

void File::sync() {
    check_fault("sync", path_);
    if (retry([&] { return fsync(descriptor_); }) == -1) fail("sync", path_, errno);
}

void File::close() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    const int injected = injected_fault();
    // Not repeated when interrupted: Linux has released the descriptor by then.
    const int result = ::close(descriptor);
    if (injected != 0) fail("close", path_, injected);
    if (result == -1 && errno != EINTR) fail("close", path_, errno);
}

std::optional<FileLock> FileLock::try_acquire(const std::string& path) {
    File file = File::create(path);
    if (retry([&] { return flock(file.descriptor(), LOCK_EX | LOCK_NB); }) == -1) {
        if (errno == EWOULDBLOCK) return std::nullopt;
        fail("lock", path, errno);
    }
    return FileLock(std::move(file));
}

bool exists(const std::string& path) {
    struct stat status {};
    return lstat(path.c_str(), &status) == 0;
}

bool is_directory(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::vector<DirectoryEntry> list_directory(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
    if (directory == nullptr) fail("list", path, errno);
    std::vector<DirectoryEntry> entries;
    while (true) {
        errno = 0;
        const dirent* entry = readdir(directory.get());
        if (entry == nullptr) {
            if (errno != 0) fail("list", path, errno);
            break;
        }
        const std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        struct stat status {};
        const bool known = lstat((path + "/" + name).c_str(), &status) == 0;
        entries.push_back({name, known && S_ISDIR(status.st_mode)});
    }
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
}

void make_directories(const std::string& path) {
    if (is_directory(path)) return;
    const std::string parent = parent_directory(path);
    if (parent != path) make_directories(parent);
    check_fault("make folder", path);
    if (mkdir(path.c_str(), 0777) == -1 && !(errno == EEXIST && is_directory(path))) {
        fail("make folder", path, errno);
    }
}

void rename_path(const std::string& from, const std::string& to) {
    const std::string both = from + " to " + to;
    check_fault("rename", both);
    if (rename(from.c_str(), to.c_str()) == -1) fail("rename", both, errno);
}

void remove_file(const std::string& path) {
    if (unlink(path.c_str()) == -1 && errno != ENOENT) fail("remove", path, errno);
}

void remove_tree(const std::string& path) {
    struct stat status {};
    if (lstat(path.c_str(), &status) == -1) {
        if (errno == ENOENT) return;
        fail("remove", path, errno);
    }
    if (!S_ISDIR(status.st_mode)) return remove_file(path);
    for (const DirectoryEntry& entry : list_directory(path)) remove_tree(path + "/" + entry.name);
    if (rmdir(path.c_str()) == -1 && errno != ENOENT) fail("remove", path, errno);
}

void sync_directory(const std::string& path) {
    check_fault("sync", path);
    const int descriptor =
        retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (descriptor == -1) fail("sync", path, errno);
    const int result = retry([&] { return fsync(descriptor); });
    const int error_number = errno;
    ::close(descriptor);
    // Some network file systems cannot sync a folder, and say so this way.
    if (result == -1 && error_number != EINVAL) fail("sync", path, error_number);
}

std::int64_t free_space(const std::string& path) {
    struct statvfs status {};
    if (statvfs(path.c_str(), &status) == -1) fail("free space of", path, errno);
    return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

std::string parent_directory(const std::string& path) {
    size_t end = path.size();
    while (end > 1 && path[end - 1] == '/') --end;
    const size_t slash = path.rfind('/', end - 1);
    if (end == 0 || slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name(const std::string& path) {
    size_t end = path.size();
    while (end > 1 && path[end - 1] == '/') --end;
    const size_t slash = end == 0 ? std::string::npos : path.rfind('/', end - 1);
    return slash == std::string::npos ? path.substr(0, end)
                                      : path.substr(slash + 1, end - slash - 1);
}

}  // namespace tempra::platform
