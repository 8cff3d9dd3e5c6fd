#include "tempra/io/atomic_file.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "platform/files.h"
#include "platform/process.h"
#include "tempra/error.h"
#include "tempra/io/crc32.h"

namespace tempra::io {

namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr std::string_view kTemporarySuffix = ".tempra-tmp";

// ".NAME.PID-N.tempra-tmp": hidden, beside the destination, unique in this process.
std::string temporary_path(const std::string& path) {
    static std::atomic<std::uint64_t> counter{0};
    return format("{}/.{}.{}-{}{}", platform::parent_directory(path), platform::file_name(path),
                  platform::process_id(), counter.fetch_add(1), kTemporarySuffix);
}

// The process that made a temporary of this name; 0 when it is not one of ours.
std::int64_t owner_of_temporary(std::string_view name) {
    if (!name.starts_with('.') || !name.ends_with(kTemporarySuffix)) return 0;
    name.remove_suffix(kTemporarySuffix.size());
    const size_t dot = name.rfind('.');
    const size_t dash = name.rfind('-');
    if (dash == std::string_view::npos || dot >= dash) return 0;
    std::int64_t process = 0;
    const auto [end, error] = std::from_chars(name.data() + dot + 1, name.data() + dash, process);
    return error == std::errc() && end == name.data() + dash && process > 0 ? process : 0;
}

void sync_tree(const std::string& folder) {
    for (const platform::DirectoryEntry& entry : platform::list_directory(folder)) {
        const std::string path = folder + "/" + entry.name;
        if (entry.is_directory) {
            sync_tree(path);
        } else {
            platform::File::open_for_reading(path).sync();
        }
    }
    platform::sync_directory(folder);
}

// For clean-up on the way out of a failure: the first error is the one to report.
template <class Action>
void ignore_errors(const Action& action) noexcept {
    try {
        action();
    } catch (const Error&) {
    }
}

}  // namespace

struct AtomicFile::State {
    State(const std::string& destination, bool with_checksum)
        : path(destination),
          temporary(temporary_path(destination)),
          file(platform::File::create_new(temporary)),
          computes_checksum(with_checksum) {
        buffer.reserve(kBufferBytes);
    }
    ~State() {
        if (!renamed) ignore_errors([this] { platform::remove_file(temporary); });
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    void count(const void* data, std::int64_t size) {
        if (computes_checksum) written.crc32 = crc32(data, size, written.crc32);
        written.bytes += size;
    }

    // `piece` stays where it is until the next flush.
    void gather(std::span<const std::byte> piece) {
        gathered_bytes += piece.size();
        if (!pieces.empty() && pieces.back().data() + pieces.back().size() == piece.data()) {
            pieces.back() = {pieces.back().data(), pieces.back().size() + piece.size()};
        } else {
            pieces.push_back(piece);
        }
    }

    void check_in() const {
        if (check) check();
    }

    void flush() {
        if (pieces.empty()) return;
        check_in();
        file.write_gathered(pieces);
        pieces.clear();
        buffer.clear();
        gathered_bytes = 0;
    }

    std::string path;
    std::string temporary;
    platform::File file;
    bool computes_checksum;
    // What is to be written next: parts of the buffer, which never moves, and borrowed bytes.
    std::vector<std::span<const std::byte>> pieces;
    size_t gathered_bytes = 0;
    std::vector<std::byte> buffer;
    WriteCheck check;
    WrittenFile written;
    bool renamed = false;
};

AtomicFile::AtomicFile(const std::string& path, Checksum checksum)
    : state_(std::make_unique<State>(path, checksum == Checksum::compute)) {}
AtomicFile::~AtomicFile() = default;
AtomicFile::AtomicFile(AtomicFile&&) noexcept = default;
AtomicFile& AtomicFile::operator=(AtomicFile&&) noexcept = default;

void AtomicFile::write(const void* data, std::int64_t size) {
    TEMPRA_CHECK(Error, state_ != nullptr, "write: this file was already committed");
    if (size <= 0) return;
    State& state = *state_;
    state.count(data, size);
    if (state.buffer.size() + static_cast<size_t>(size) > kBufferBytes) state.flush();
    if (static_cast<size_t>(size) >= kBufferBytes) {
        state.check_in();
        state.file.write(data, size);
        return;
    }
    const auto* bytes = static_cast<const std::byte*>(data);
    const size_t before = state.buffer.size();
    state.buffer.insert(state.buffer.end(), bytes, bytes + size);
    state.gather(std::span(state.buffer).subspan(before));
}

void AtomicFile::write_borrowed(const void* data, std::int64_t size) {
    constexpr std::int64_t kWorthAPiece = 1024;
    if (size < kWorthAPiece) return write(data, size);
    TEMPRA_CHECK(Error, state_ != nullptr, "write_borrowed: this file was already committed");
    // In parts that stay in the processor's cache between the checksum and the system call.
    const auto* bytes = static_cast<const std::byte*>(data);
    for (std::int64_t done = 0; done < size;) {
        const std::int64_t part = std::min(size - done, static_cast<std::int64_t>(kBufferBytes));
        state_->count(bytes + done, part);
        state_->gather({bytes + done, static_cast<size_t>(part)});
        done += part;
        if (state_->gathered_bytes >= kBufferBytes) state_->flush();
    }
}

void AtomicFile::replace_zeros(std::int64_t offset, const void* data, std::int64_t size) {
    TEMPRA_CHECK(Error, state_ != nullptr, "replace_zeros: this file was already committed");
    WrittenFile& written = state_->written;
    TEMPRA_CHECK(
        Error,
        offset >= 0 && size >= 0 && offset <= written.bytes && size <= written.bytes - offset,
        "replace_zeros: {} bytes at {} given, {} were written", size, offset, written.bytes);
    state_->flush();
    state_->file.write_at(offset, data, size);
    if (!state_->computes_checksum) return;
    // Checksums of equally long texts differ by what their differing parts contribute, moved
    // forward by what follows.
    const std::vector<std::byte> zeros(static_cast<size_t>(size));
    const std::uint32_t difference = crc32(data, size) ^ crc32(zeros.data(), size);
    written.crc32 = crc32_combine(difference, written.crc32, written.bytes - offset - size);
}

void AtomicFile::set_check(WriteCheck check) {
    TEMPRA_CHECK(Error, state_ != nullptr, "set_check: this file was already committed");
    state_->check = std::move(check);
}

std::int64_t AtomicFile::bytes_written() const noexcept {
    return state_ == nullptr ? 0 : state_->written.bytes;
}

std::uint32_t AtomicFile::checksum() const noexcept {
    return state_ == nullptr ? 0 : state_->written.crc32;
}

WrittenFile AtomicFile::commit() {
    TEMPRA_CHECK(Error, state_ != nullptr, "commit: this file was already committed");
    const std::unique_ptr<State> state = std::move(state_);
    state->flush();
    state->file.sync();
    state->file.close();
    state->check_in();
    platform::rename_path(state->temporary, state->path);
    state->renamed = true;
    // Should this fail the new file is in place and whole, though perhaps not yet durable.
    platform::sync_directory(platform::parent_directory(state->path));
    return state->written;
}

WrittenFile write_file(const std::string& path, const void* data, std::int64_t size) {
    AtomicFile file(path);
    file.write(data, size);
    return file.commit();
}

int remove_stale_temporaries(const std::string& folder) {
    int removed = 0;
    for (const platform::DirectoryEntry& entry : platform::list_directory(folder)) {
        const std::int64_t owner = owner_of_temporary(entry.name);
        if (entry.is_directory || owner == 0 || platform::process_exists(owner)) continue;
        platform::remove_file(folder + "/" + entry.name);
        ++removed;
    }
    return removed;
}

void publish_directory(const std::string& temporary, const std::string& final) {
    const std::string parent = platform::parent_directory(final);
    const std::string replaced = final + kReplacedSuffix;
    sync_tree(temporary);
    const bool replaces = platform::exists(final);
    if (replaces) {
        // Left by a process that died after its folder was in place: superseded twice over.
        platform::remove_tree(replaced);
        platform::rename_path(final, replaced);
    }
    try {
        platform::rename_path(temporary, final);
    } catch (const IoError&) {
        if (replaces) ignore_errors([&] { platform::rename_path(replaced, final); });
        throw;
    }
    platform::sync_directory(parent);
    // Only now is the old one superseded for certain. Its removal may fail: it is merely in the
    // way.
    ignore_errors([&] { platform::remove_tree(replaced); });
}

}  // namespace tempra::io
