// Writing WDBX version 3. Payloads are written as they come; header and directory, which hold their
// sizes and checksums, go last into the zeros that keep their place. No byte is read back: the
// checksum of a section follows from those of the file before and after it.
#include <algorithm>
#include <utility>

#include "data/wdbx_format.h"
#include "tempra/data/bloom_filter.h"
#include "tempra/io/crc32.h"

namespace tempra::data {

using namespace wdbx;  // NOLINT(google-build-using-namespace): this file's own format

namespace {

constexpr std::uint64_t kMaxRecords = 0xFFFFFFFF;
constexpr std::int64_t kMaxSections = 0xFFFF;

struct Entry {
    std::uint16_t type = 0, flags = 0;
    std::int64_t offset = 0, length = 0;
    std::uint32_t crc32 = 0, item_count = 0;
};

std::uint16_t flags_of(const WdbxContents& contents) {
    constexpr std::uint16_t kAlways = v3::kHasDirectory | v3::kHasMetadata | v3::kHasVectors;
    auto flags = static_cast<std::uint16_t>(kAlways | (contents.header.flags & v3::kKept));
    for (const WdbxExtraSection& section : contents.extra_sections) {
        switch (section.type) {
            case wdbx_section::kVectorIndex: flags |= v3::kHasIndex; break;
            case wdbx_section::kLineage: flags |= v3::kHasLineage; break;
            case wdbx_section::kDistributed: flags |= v3::kHasDistributed; break;
            default: break;
        }
    }
    return flags;
}

}  // namespace

struct WdbxWriter::State {
    State(const std::string& destination, WdbxContents given)
        : path(destination), contents(std::move(given)), file(destination) {
        const auto extras = std::ssize(contents.extra_sections);
        TEMPRA_CHECK(FormatError, extras <= kMaxSections - 3,
                     "{}: PayloadTooLarge: {} sections beside the usual three, at most {} fit",
                     path, extras, kMaxSections - 3);
        check_stored_as_floats(contents.header, false, path);
    }

    [[nodiscard]] std::int64_t directory_bytes() const {
        return v3::kEntryBytes * std::ssize(entries);
    }

    // The number of sections, and so where the first begins, depends on whether there are records.
    void begin(bool has_records) {
        entries.resize(2 + (has_records ? 1U : 0U) + contents.extra_sections.size());
        const std::vector<std::byte> place(
            static_cast<size_t>(v3::kHeaderBytes + directory_bytes()));
        file.write(place.data(), std::ssize(place));
        next_entry = 0;
        const auto name_bytes = std::min(std::ssize(contents.name), kMaxNameBytes);
        const auto length = static_cast<std::uint16_t>(name_bytes);
        open_section();
        file.write(&length, sizeof length);
        file.write(contents.name.data(), name_bytes);
        write(contents.after_name);
        close_section(wdbx_section::kMetadata, 0, 1);
        open_section();
    }

    void open_section() {
        entries[next_entry].offset = file.bytes_written();
        checksum_before = file.checksum();
    }

    void close_section(std::uint16_t type, std::uint16_t flags, std::uint32_t item_count) {
        Entry& entry = entries[next_entry++];
        entry.type = type;
        entry.flags = flags;
        entry.item_count = item_count;
        entry.length = file.bytes_written() - entry.offset;
        entry.crc32 = io::crc32_combine(checksum_before, file.checksum(), entry.length);
    }

    void write(Bytes bytes) { file.write(bytes.data(), std::ssize(bytes)); }
    void write_borrowed(Bytes bytes) { file.write_borrowed(bytes.data(), std::ssize(bytes)); }

    // To be called before the records are written.
    void admit(const IdRun& run, std::int64_t vector_length) {
        if (ids.count() == 0) {
            begin(true);
            dimension = vector_length;
        }
        if (vector_length != dimension) {
            fail(path, kCorruptedData,
                 "InvalidDimension: a vector of {} floats given, those before have {}",
                 vector_length, dimension);
        }
        const std::uint64_t more = run.last - run.first;
        if (more >= kMaxRecords || ids.count() + more >= kMaxRecords) {
            fail(path, kPayloadTooLarge, "more than {} records", kMaxRecords);
        }
        ids.append(run);
    }

    void write_bloom_filter() {
        const auto count = ids.count();
        std::vector<std::byte> section = make_bloom_filter(bloom_filter_size(count, path));
        for (const IdRun& run : ids.runs()) {
            for (std::uint64_t id = run.first;; ++id) {
                insert_id(section, id);
                if (id == run.last) break;
            }
        }
        open_section();
        write(section);
        close_section(wdbx_section::kBloomFilter, 0, static_cast<std::uint32_t>(count));
    }

    [[nodiscard]] std::vector<std::byte> make_header() const {
        const WdbxHeader& given = contents.header;
        std::vector<std::byte> header(static_cast<size_t>(v3::kHeaderBytes));
        std::byte* out = header.data();
        std::memcpy(out, kMagic.data(), kMagic.size());
        store(out, 4, std::uint16_t{3});
        store(out, 6, flags_of(contents));
        store(out, 8, static_cast<std::uint16_t>(v3::kHeaderBytes));
        store(out, 10, static_cast<std::uint16_t>(entries.size()));
        store(out, 16, v3::kHeaderBytes);
        store(out, 24, directory_bytes());
        store(out, 32, given.created_at);
        store(out, 40, given.modified_at);
        store(out, 48, ids.count());
        store(out, 56, static_cast<std::uint32_t>(dimension));
        store(out, 60, given.distance_metric);
        store(out, 61, given.compression);
        std::memcpy(out + 64, given.uuid.data(), given.uuid.size());
        return header;
    }

    [[nodiscard]] std::vector<std::byte> make_directory() const {
        std::vector<std::byte> directory(static_cast<size_t>(directory_bytes()));
        std::byte* out = directory.data();
        for (const Entry& entry : entries) {
            store(out, 0, entry.type);
            store(out, 2, entry.flags);
            store(out, 4, entry.offset);
            store(out, 12, entry.length);
            store(out, 20, entry.crc32);
            store(out, 24, entry.item_count);
            out += v3::kEntryBytes;
        }
        return directory;
    }

    // Fills header and directory in and appends the footer.
    void finish() {
        const std::vector<std::byte> header = make_header(), directory = make_directory();
        const std::int64_t size = file.bytes_written();
        const std::int64_t data_begin = v3::kHeaderBytes + directory_bytes();
        const std::vector<std::byte> zeros(static_cast<size_t>(data_begin));
        const std::uint32_t data_crc32 = io::crc32_combine(io::crc32(zeros.data(), data_begin),
                                                           file.checksum(), size - data_begin);
        file.replace_zeros(0, header.data(), std::ssize(header));
        file.replace_zeros(v3::kHeaderBytes, directory.data(), std::ssize(directory));

        std::array<std::byte, v3::kFooterBytes> footer{};
        std::memcpy(footer.data(), v3::kFooterMarker.data(), v3::kFooterMarker.size());
        store(footer.data(), 4, io::crc32(header.data(), std::ssize(header)));
        store(footer.data(), 8, io::crc32(directory.data(), std::ssize(directory)));
        store(footer.data(), 12, data_crc32);
        store(footer.data(), 16, file.checksum());
        store(footer.data(), 20, size);
        store(footer.data(), 28, static_cast<std::uint32_t>(entries.size()));
        file.write(footer.data(), std::ssize(footer));
    }

    std::string path;
    WdbxContents contents;
    io::AtomicFile file;
    std::vector<Entry> entries;
    size_t next_entry = 0;
    std::uint32_t checksum_before = 0;  // of the file before the open section
    std::int64_t dimension = 0;
    std::int64_t metadata_left = 0;  // of the record that was begun
    IdRuns ids;
};

WdbxContents contents_of(const WdbxFile& file) {
    const WdbxLayout& layout = file.layout();
    const Bytes name = file.bytes(*layout.find(wdbx_section::kMetadata));
    const Bytes after_name =
        name.subspan(static_cast<size_t>(kNameLengthBytes) + layout.name.size());
    WdbxContents contents{layout.name, after_name, layout.header, {}};
    if (layout.header.version == 2) {  // whose flags mean other things
        const bool compressed = (layout.header.flags & v2::kCompressed) != 0;
        contents.header.flags = compressed ? v3::kCompressed : std::uint16_t{0};
    }
    for (const WdbxSection& section : layout.sections) {
        if (section.type == wdbx_section::kMetadata || section.type == wdbx_section::kVectors ||
            section.type == wdbx_section::kBloomFilter) {
            continue;
        }
        contents.extra_sections.push_back(
            {section.type, section.flags, section.item_count, file.bytes(section)});
    }
    return contents;
}

WdbxWriter::WdbxWriter(const std::string& path, WdbxContents contents)
    : state_(std::make_unique<State>(path, std::move(contents))) {}
WdbxWriter::~WdbxWriter() = default;
WdbxWriter::WdbxWriter(WdbxWriter&&) noexcept = default;
WdbxWriter& WdbxWriter::operator=(WdbxWriter&&) noexcept = default;

void WdbxWriter::check_between_records(const char* operation) const {
    TEMPRA_CHECK(Error, state_ != nullptr, "{}: this file was already committed", operation);
    TEMPRA_CHECK(Error, state_->metadata_left == 0,
                 "{}: {}: the record before lacks {} bytes of its metadata", state_->path,
                 operation, state_->metadata_left);
}

std::uint64_t WdbxWriter::record_count() const noexcept {
    return state_ == nullptr ? 0 : state_->ids.count();
}

void WdbxWriter::append(std::uint64_t id, std::span<const float> vector, Bytes metadata) {
    begin_record(id, vector, std::ssize(metadata));
    write_metadata(metadata);
}

void WdbxWriter::begin_record(std::uint64_t id, std::span<const float> vector,
                              std::int64_t metadata_bytes) {
    check_between_records("begin_record");
    constexpr std::int64_t kLargest = 0xFFFFFFFF;
    if (std::ssize(vector) > kLargest || metadata_bytes < 0 || metadata_bytes > kLargest) {
        fail(state_->path, kPayloadTooLarge,
             "record {}: {} floats and {} bytes of metadata given, at most {} of each fit", id,
             vector.size(), metadata_bytes, kLargest);
    }
    state_->admit(IdRun{id, id}, std::ssize(vector));
    std::array<std::byte, kRecordHeaderBytes> header;
    store(header.data(), 0, id);
    store(header.data(), 8, static_cast<std::uint32_t>(vector.size()));
    store(header.data(), 12, static_cast<std::uint32_t>(metadata_bytes));
    state_->write(header);
    state_->write(std::as_bytes(vector));
    state_->metadata_left = metadata_bytes;
}

void WdbxWriter::write_metadata(Bytes piece) {
    take_metadata(piece);
    state_->write(piece);
}

void WdbxWriter::write_borrowed_metadata(Bytes piece) {
    take_metadata(piece);
    state_->write_borrowed(piece);
}

void WdbxWriter::take_metadata(Bytes piece) {
    TEMPRA_CHECK(Error, state_ != nullptr, "write_metadata: this file was already committed");
    TEMPRA_CHECK(Error, std::ssize(piece) <= state_->metadata_left,
                 "{}: write_metadata: {} bytes given, {} are left of the record", state_->path,
                 piece.size(), state_->metadata_left);
    state_->metadata_left -= std::ssize(piece);
}

void WdbxWriter::append_all(const WdbxFile& file) {
    check_between_records("append_all");
    WdbxRecordCursor cursor = file.records();
    const Bytes records = cursor.rest();
    WdbxRecord first;
    if (!cursor.next(first)) return;
    // All vectors of a file have the same length.
    for (const IdRun& run : file.layout().ids.runs()) {
        state_->admit(run, std::ssize(first.vector) / kFloatBytes);
    }
    // In pieces: the file may be closed before `commit`.
    constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;
    for (std::int64_t done = 0; done < std::ssize(records); done += kPieceBytes) {
        state_->write(slice(records, done, std::min(kPieceBytes, std::ssize(records) - done)));
    }
}

void WdbxWriter::set_check(io::WriteCheck check) {
    TEMPRA_CHECK(Error, state_ != nullptr, "set_check: this file was already committed");
    state_->file.set_check(std::move(check));
}

io::WrittenFile WdbxWriter::commit() {
    check_between_records("commit");
    const std::unique_ptr<State> state = std::move(state_);
    check_unique(state->ids, state->path);
    const std::uint64_t count = state->ids.count();
    if (count == 0) state->begin(false);
    state->close_section(wdbx_section::kVectors, 0, static_cast<std::uint32_t>(count));
    if (count > 0) state->write_bloom_filter();
    for (const WdbxExtraSection& section : state->contents.extra_sections) {
        state->open_section();
        state->write(section.payload);
        state->close_section(section.type, section.flags, section.item_count);
    }
    state->finish();
    return state->file.commit();
}

}  // namespace tempra::data
