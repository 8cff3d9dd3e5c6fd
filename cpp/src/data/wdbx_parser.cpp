// Which version a WDBX file is of, and what both versions share.
#include <algorithm>

#include "data/wdbx_format.h"

namespace tempra::data {

namespace wdbx {

void check_compression(int compression, const std::string& source) {
    constexpr int kNone = 0, kDelta = 3;
    if (compression > kDelta)
        fail(source, kCorruptedData, "compression {} is unknown", compression);
    // "Delta" is a mark that its writer sets on plain floats.
    if (compression != kNone && compression != kDelta) {
        fail(source, kUnsupportedCompression, "compressed with {}, which cannot be read",
             compression == 1 ? "lz4" : "zstd");
    }
}

void check_stored_as_floats(const WdbxHeader& header, bool encrypted, const std::string& source) {
    constexpr int kLargestMetric = 3;
    if (header.distance_metric > kLargestMetric) {
        fail(source, kCorruptedData, "distance metric {} is unknown", int{header.distance_metric});
    }
    check_compression(header.compression, source);
    if (encrypted) fail(source, kUnsupportedVersion, "encrypted, which cannot be read");
}

void check_checksum(const std::string& source, std::string_view what, std::uint32_t found,
                    std::uint32_t stated) {
    if (found == stated) return;
    fail(source, kInvalidChecksum, "checksum of the {} is {}, the file says {}: it is damaged",
         what, found, stated);
}

void check_unique(const IdRuns& ids, const std::string& source) {
    if (const auto id = ids.duplicate()) {
        fail(source, kCorruptedData, "DuplicateId: id {} is there twice", *id);
    }
}

}  // namespace wdbx

WdbxLayout parse_wdbx(std::span<const std::byte> file, const std::string& source,
                      const WdbxReadOptions& options) {
    using namespace wdbx;  // NOLINT(google-build-using-namespace): this file's own
    if (std::ssize(file) < kMagicAndVersionBytes) {
        fail(source, kTruncatedData, "{} bytes, too few for a WDBX file", file.size());
    }
    if (!has_text(file, 0, kMagic)) fail(source, kInvalidMagic, "does not begin with WDBX");
    const auto version = load<std::uint16_t>(file, 4);
    if (version == 3) return parse_v3(file, source, options);
    if (version == 2) return parse_v2(file, source, options);
    fail(source, kUnsupportedVersion, "WDBX version {}, 2 and 3 are known", version);
}

const WdbxSection* WdbxLayout::find(std::uint16_t type) const noexcept {
    const auto found =
        std::find_if(sections.begin(), sections.end(),
                     [&](const WdbxSection& section) { return section.type == type; });
    return found == sections.end() ? nullptr : &*found;
}

bool WdbxRecordCursor::next(WdbxRecord& record) {
    const auto size = static_cast<std::int64_t>(rest_.size());
    if (size < wdbx::kRecordHeaderBytes) return false;
    const std::int64_t vector_bytes =
        wdbx::kFloatBytes * std::int64_t{load<std::uint32_t>(rest_, 8)};
    const std::int64_t metadata_bytes = load<std::uint32_t>(rest_, 12);
    if (vector_bytes + metadata_bytes > size - wdbx::kRecordHeaderBytes) return false;
    record.id = load<std::uint64_t>(rest_, 0);
    record.vector = wdbx::slice(rest_, wdbx::kRecordHeaderBytes, vector_bytes);
    record.metadata = wdbx::slice(rest_, wdbx::kRecordHeaderBytes + vector_bytes, metadata_bytes);
    rest_ = rest_.subspan(
        static_cast<size_t>(wdbx::kRecordHeaderBytes + vector_bytes + metadata_bytes));
    return true;
}

WdbxVectorIndex parse_wdbx_vector_index(std::span<const std::byte> section,
                                        const std::string& source) {
    WdbxVectorIndex index;
    index.begins.push_back(0);
    const std::int64_t walked = wdbx::walk_vector_index(section, [&](wdbx::Bytes list) {
        for (size_t offset = 0; offset < list.size(); offset += sizeof(std::uint32_t)) {
            index.neighbours.push_back(load<std::uint32_t>(list, offset));
        }
        index.begins.push_back(index.neighbours.size());
    });
    if (walked != std::ssize(section)) {
        wdbx::fail(source, wdbx::kCorruptedData,
                   "the vector index does not end with its section of {} bytes", section.size());
    }
    index.entry_point = load<std::uint32_t>(section, 0);
    index.max_layer = load<std::uint32_t>(section, 4);
    return index;
}

}  // namespace tempra::data
