// WDBX version 3: header, directory and footer of the file, checked in this order, before anything
// is done with what they say; then the records. Every byte is read once for all its checksums.
#include <algorithm>

#include "data/range_checksums.h"
#include "data/wdbx_format.h"

namespace tempra::data::wdbx {

namespace {

using namespace v3;  // NOLINT(google-build-using-namespace): this file's own version

struct Directory {
    std::int64_t begin = 0, end = 0;
};

struct Frame {
    Directory directory;
    std::int64_t entry_count = 0;
    std::int64_t payload_end = 0;  // where the footer begins
    std::uint64_t vector_count = 0;
};

// Whether `length` bytes from `offset` lie below `limit`; the numbers may be any.
bool lies_within(std::uint64_t offset, std::uint64_t length, std::int64_t limit) {
    const auto end = static_cast<std::uint64_t>(limit);
    return offset <= end && length <= end - offset;
}

WdbxHeader read_header(Bytes file) {
    WdbxHeader header;
    header.version = load<std::uint16_t>(file, 4);
    header.flags = load<std::uint16_t>(file, 6);
    header.created_at = load<std::int64_t>(file, 32);
    header.modified_at = load<std::int64_t>(file, 40);
    header.dimension = load<std::uint32_t>(file, 56);
    header.distance_metric = load<std::uint8_t>(file, 60);
    header.compression = load<std::uint8_t>(file, 61);
    std::memcpy(header.uuid.data(), file.data() + 64, header.uuid.size());
    return header;
}

Frame read_frame(Bytes file, const std::string& source) {
    const std::int64_t end = std::ssize(file) - kFooterBytes;
    if (end < kHeaderBytes) {
        fail(source, kTruncatedData, "{} bytes, at least {} needed", file.size(),
             kHeaderBytes + kFooterBytes);
    }
    const Bytes footer = slice(file, end, kFooterBytes);
    if (!has_text(footer, 0, kFooterMarker)) {
        fail(source, kInvalidFooter, "does not end with a footer: cut short, or bytes were added");
    }
    if (load<std::uint64_t>(footer, 20) != static_cast<std::uint64_t>(end)) {
        fail(source, kCorruptedData, "the footer says {} bytes lie before it, there are {}",
             load<std::uint64_t>(footer, 20), end);
    }
    const auto sections = load<std::uint16_t>(file, 10);
    if (load<std::uint32_t>(footer, 28) != sections) {
        fail(source, kCorruptedData, "the footer says {} sections, the header {}",
             load<std::uint32_t>(footer, 28), sections);
    }
    const auto offset = load<std::uint64_t>(file, 16), size = load<std::uint64_t>(file, 24);
    if (size != static_cast<std::uint64_t>(kEntryBytes * sections)) {
        fail(source, kCorruptedData, "the directory of {} sections has {} bytes, {} needed",
             sections, size, kEntryBytes * sections);
    }
    if (offset < static_cast<std::uint64_t>(kHeaderBytes) || !lies_within(offset, size, end)) {
        fail(source, kCorruptedData, "the directory of {} bytes at {} is not between {} and {}",
             size, offset, kHeaderBytes, end);
    }
    const auto begin = static_cast<std::int64_t>(offset);
    return {{begin, begin + kEntryBytes * sections}, sections, end, load<std::uint64_t>(file, 48)};
}

Bytes entry_of(Bytes file, const Frame& frame, std::int64_t index) {
    return slice(file, frame.directory.begin + kEntryBytes * index, kEntryBytes);
}

bool entry_is_inside(Bytes entry, const Frame& frame) {
    return lies_within(load<std::uint64_t>(entry, 4), load<std::uint64_t>(entry, 12),
                       frame.payload_end);
}

// Where checksums begin or end: of the parts, and of every section that lies inside.
RangeChecksums compute_checksums(Bytes file, const Frame& frame) {
    std::vector<std::int64_t> bounds{kHeaderBytes, frame.directory.begin, frame.directory.end};
    for (std::int64_t i = 0; i < frame.entry_count; ++i) {
        const Bytes entry = entry_of(file, frame, i);
        if (!entry_is_inside(entry, frame)) continue;
        const auto begin = load<std::int64_t>(entry, 4);
        bounds.push_back(begin);
        bounds.push_back(begin + load<std::int64_t>(entry, 12));
    }
    return RangeChecksums(slice(file, 0, frame.payload_end), std::move(bounds));
}

void check_parts(Bytes file, const Frame& frame, const RangeChecksums& checksums,
                 const std::string& source) {
    const Bytes footer = slice(file, frame.payload_end, kFooterBytes);
    const Directory& directory = frame.directory;
    const auto check = [&](std::string_view what, std::int64_t begin, std::int64_t end,
                           size_t stated_at) {
        check_checksum(source, what, checksums.of(begin, end),
                       load<std::uint32_t>(footer, stated_at));
    };
    check("header", 0, kHeaderBytes, 4);
    check("directory", directory.begin, directory.end, 8);
    check("data", directory.end, frame.payload_end, 12);
    check("file", 0, frame.payload_end, 16);
}

std::vector<WdbxSection> read_directory(Bytes file, const Frame& frame,
                                        const RangeChecksums* checksums,
                                        const std::string& source) {
    std::vector<WdbxSection> sections;
    sections.reserve(static_cast<size_t>(frame.entry_count));
    for (std::int64_t i = 0; i < frame.entry_count; ++i) {
        const Bytes entry = entry_of(file, frame, i);
        if (!entry_is_inside(entry, frame)) {
            fail(source, kCorruptedData,
                 "section {}: {} bytes at {} are not within the {} there are", i,
                 load<std::uint64_t>(entry, 12), load<std::uint64_t>(entry, 4), frame.payload_end);
        }
        const WdbxSection section{load<std::uint16_t>(entry, 0), load<std::uint16_t>(entry, 2),
                                  load<std::uint32_t>(entry, 24), load<std::int64_t>(entry, 4),
                                  load<std::int64_t>(entry, 12)};
        if (checksums != nullptr) {
            check_checksum(source, format("section {}", i),
                           checksums->of(section.offset, section.offset + section.length),
                           load<std::uint32_t>(entry, 20));
        }
        sections.push_back(section);
    }
    return sections;
}

const WdbxSection& find_only(const WdbxLayout& layout, std::uint16_t type, std::string_view name,
                             const std::string& source) {
    const auto count = std::count_if(layout.sections.begin(), layout.sections.end(),
                                     [&](const auto& section) { return section.type == type; });
    if (count != 1) fail(source, kCorruptedData, "{} {} sections, one needed", count, name);
    return *layout.find(type);
}

std::string read_name(Bytes section, const std::string& source) {
    const auto size = std::ssize(section);
    if (size < kNameLengthBytes) {
        fail(source, kCorruptedData, "the metadata section has {} bytes, at least {} needed", size,
             kNameLengthBytes);
    }
    const std::int64_t length = load<std::uint16_t>(section, 0);
    if (length > size - kNameLengthBytes) {
        fail(source, kCorruptedData, "a name of {} bytes does not fit the metadata section of {}",
             length, size);
    }
    const auto* begin = reinterpret_cast<const char*>(section.data()) + kNameLengthBytes;
    return {begin, static_cast<size_t>(length)};
}

IdRuns read_ids(Bytes section, const WdbxHeader& header, std::uint64_t vector_count,
                const std::string& source) {
    IdRuns ids;
    WdbxRecordCursor cursor(section);
    WdbxRecord record;
    std::int64_t dimension = header.dimension == 0 ? -1 : std::int64_t{header.dimension};
    while (cursor.next(record)) {
        const std::int64_t length = std::ssize(record.vector) / kFloatBytes;
        if (dimension == -1) dimension = length;
        if (length != dimension) {
            fail(source, kCorruptedData, "record {} (id {}) has a vector of {} floats, {} needed",
                 ids.count(), record.id, length, dimension);
        }
        ids.append(record.id);
    }
    if (!cursor.rest().empty()) {
        fail(source, kCorruptedData, "record {} does not fit the {} bytes left of its section",
             ids.count(), cursor.rest().size());
    }
    if (ids.count() != vector_count) {
        fail(source, kCorruptedData, "{} records, the header says {}", ids.count(), vector_count);
    }
    check_unique(ids, source);
    return ids;
}

}  // namespace

WdbxLayout parse_v3(Bytes file, const std::string& source, const WdbxReadOptions& options) {
    const Frame frame = read_frame(file, source);
    WdbxLayout layout;
    layout.header = read_header(file);
    if (options.verify_checksums) {
        const RangeChecksums checksums = compute_checksums(file, frame);
        check_parts(file, frame, checksums, source);
        layout.sections = read_directory(file, frame, &checksums, source);
    } else {
        layout.sections = read_directory(file, frame, nullptr, source);
    }
    check_stored_as_floats(layout.header, (layout.header.flags & kEncrypted) != 0, source);
    const WdbxSection& metadata = find_only(layout, wdbx_section::kMetadata, "metadata", source);
    const WdbxSection& vectors = find_only(layout, wdbx_section::kVectors, "vectors", source);
    layout.name = read_name(slice(file, metadata.offset, metadata.length), source);
    layout.ids = read_ids(slice(file, vectors.offset, vectors.length), layout.header,
                          frame.vector_count, source);
    return layout;
}

}  // namespace tempra::data::wdbx
