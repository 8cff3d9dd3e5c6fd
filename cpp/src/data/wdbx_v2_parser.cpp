// WDBX version 2: header and footer, then a chain of blocks that must fill the file exactly.
#include "data/wdbx_format.h"
#include "tempra/io/crc32.h"

namespace tempra::data::wdbx {

namespace {

using namespace v2;  // NOLINT(google-build-using-namespace): this file's own version

WdbxHeader read_header(Bytes file) {
    WdbxHeader header;
    header.version = load<std::uint16_t>(file, 4);
    header.flags = load<std::uint8_t>(file, 6);
    header.created_at = load<std::int64_t>(file, 8);
    header.modified_at = load<std::int64_t>(file, 16);
    header.dimension = load<std::uint32_t>(file, 32);
    header.distance_metric = load<std::uint8_t>(file, 36);
    header.compression = load<std::uint8_t>(file, 37);
    std::memcpy(header.uuid.data(), file.data() + 40, header.uuid.size());
    return header;
}

void check_footer(Bytes file, std::int64_t end, const std::string& source) {
    const Bytes footer = slice(file, end, kFooterBytes);
    if (!has_text(footer, 0, kFooterMarker)) {
        fail(source, kInvalidFooter, "does not end with a footer: cut short, or bytes were added");
    }
    if (load<std::uint64_t>(footer, 16) != static_cast<std::uint64_t>(end)) {
        fail(source, kCorruptedData, "the footer says {} bytes lie before it, there are {}",
             load<std::uint64_t>(footer, 16), end);
    }
}

void check_checksums(Bytes file, std::int64_t end, const std::string& source) {
    const Bytes footer = slice(file, end, kFooterBytes);
    const std::uint32_t header = io::crc32(file.data(), kHeaderBytes);
    const std::uint32_t data = io::crc32(file.data() + kHeaderBytes, end - kHeaderBytes);
    check_checksum(source, "header", header, load<std::uint32_t>(footer, 4));
    check_checksum(source, "data", data, load<std::uint32_t>(footer, 8));
    const auto stated = load<std::uint32_t>(footer, 12);
    // Older files repeat the header's checksum here.
    if (stated == header) return;
    check_checksum(source, "file", io::crc32_combine(header, data, end - kHeaderBytes), stated);
}

// Takes the blocks from the front of what lies between header and footer.
class Blocks {
  public:
    Blocks(Bytes file, std::int64_t end, const std::string& source, WdbxLayout& layout)
        : file_(file), end_(end), source_(source), layout_(layout) {}

    void read_name() {
        if (left() < kNameLengthBytes) fail_truncated("the name");
        const std::int64_t length = load<std::uint16_t>(rest(), 0);
        if (length > left() - kNameLengthBytes) fail_truncated("the name");
        layout_.name.assign(reinterpret_cast<const char*>(rest().data()) + kNameLengthBytes,
                            static_cast<size_t>(length));
        take_section(wdbx_section::kMetadata, kNameLengthBytes + length, 1);
    }

    void read_bloom_filter(bool has_records) {
        if (left() < kBloomBlockBytes) fail_truncated("the bloom filter's block");
        const bool present = load<std::uint8_t>(rest(), 0) == kBloomBlock;
        if (!present && !has_records) return;
        const std::int64_t length = present ? load<std::uint32_t>(rest(), 4) : 0;
        if (length == 0) {
            fail(source_, kInvalidBloomFilter, "announced, and {}", present ? "empty" : "absent");
        }
        position_ += kBloomBlockBytes;
        if (length > left()) fail_truncated("the bloom filter");
        take_section(wdbx_section::kBloomFilter, length, 0);
    }

    void read_records(std::uint64_t vector_count) {
        if (left() < kVectorBlockBytes) fail_truncated("the vectors' block");
        const Bytes block = rest();
        if (load<std::uint8_t>(block, 0) != kVectorBlock) {
            fail(source_, kCorruptedData, "a block of type {} where the vectors are to be",
                 int{load<std::uint8_t>(block, 0)});
        }
        const auto count = load<std::uint32_t>(block, 4);
        const auto length = load<std::uint64_t>(block, 8);
        if (count != vector_count) {
            fail(source_, kCorruptedData, "{} records, the header says {}", count, vector_count);
        }
        if (count > 0 && layout_.header.dimension == 0) {
            fail(source_, kCorruptedData, "{} records of dimension 0", count);
        }
        if (length < static_cast<std::uint64_t>(kRecordHeaderBytes) * count) {
            fail(source_, kCorruptedData, "{} records do not fit {} bytes", count, length);
        }
        check_compression(load<std::uint8_t>(block, 1), source_);
        position_ += kVectorBlockBytes;
        if (length > static_cast<std::uint64_t>(left())) fail_truncated("the vectors");
        walk_records(count, static_cast<std::int64_t>(length));
        take_section(wdbx_section::kVectors, static_cast<std::int64_t>(length), count);
    }

    void read_index() {
        if (left() == 0) return;
        const bool present =
            left() >= kIndexBlockBytes && load<std::uint8_t>(rest(), 0) == kIndexBlock;
        if (!present) {
            fail(source_, kCorruptedData, "{} bytes that belong to nothing before the footer",
                 left());
        }
        position_ += kIndexBlockBytes;
        std::uint32_t nodes = 0;
        const std::int64_t length = walk_vector_index(rest(), [&](Bytes) { ++nodes; });
        if (length == -1) fail_truncated("the vector index");
        take_section(wdbx_section::kVectorIndex, length, nodes);
        if (left() > 0) {
            fail(source_, kCorruptedData, "{} bytes that belong to nothing before the footer",
                 left());
        }
    }

  private:
    [[nodiscard]] std::int64_t left() const { return end_ - position_; }
    [[nodiscard]] Bytes rest() const { return slice(file_, position_, left()); }

    [[noreturn]] void fail_truncated(std::string_view what) const {
        fail(source_, kTruncatedData, "{} at byte {} runs into the footer at {}", what, position_,
             end_);
    }

    void take_section(std::uint16_t type, std::int64_t length, std::uint32_t items) {
        layout_.sections.push_back({type, 0, items, position_, length});
        position_ += length;
    }

    void walk_records(std::uint32_t count, std::int64_t length) {
        constexpr std::int64_t kMaxVectorBytes = 0xFFFFFFFF;
        WdbxRecordCursor cursor(rest());
        WdbxRecord record;
        for (std::uint32_t i = 0; i < count; ++i) {
            if (std::ssize(cursor.rest()) >= kRecordHeaderBytes &&
                kFloatBytes * load<std::uint32_t>(cursor.rest(), 8) > kMaxVectorBytes) {
                fail(source_, kCorruptedData, "record {} has a vector of {} floats", i,
                     load<std::uint32_t>(cursor.rest(), 8));
            }
            if (!cursor.next(record)) fail_truncated(format("record {}", i));
            if (std::ssize(record.vector) != kFloatBytes * layout_.header.dimension) {
                fail(source_, kCorruptedData,
                     "record {} (id {}) has a vector of {} floats, {} needed", i, record.id,
                     std::ssize(record.vector) / kFloatBytes, layout_.header.dimension);
            }
            layout_.ids.append(record.id);
        }
        const std::int64_t walked = left() - std::ssize(cursor.rest());
        if (walked != length) {
            fail(source_, kCorruptedData, "the records take {} bytes, their block says {}", walked,
                 length);
        }
        check_unique(layout_.ids, source_);
    }

    Bytes file_;
    std::int64_t position_ = kHeaderBytes;
    std::int64_t end_;
    const std::string& source_;
    WdbxLayout& layout_;
};

}  // namespace

WdbxLayout parse_v2(Bytes file, const std::string& source, const WdbxReadOptions& options) {
    const std::int64_t end = std::ssize(file) - kFooterBytes;
    if (end < kHeaderBytes) {
        fail(source, kTruncatedData, "{} bytes, at least {} needed", file.size(),
             kHeaderBytes + kFooterBytes);
    }
    check_footer(file, end, source);
    if (options.verify_checksums) check_checksums(file, end, source);
    WdbxLayout layout;
    layout.header = read_header(file);
    check_stored_as_floats(layout.header, (layout.header.flags & kEncrypted) != 0, source);
    const auto vector_count = load<std::uint64_t>(file, 24);
    Blocks blocks(file, end, source, layout);
    blocks.read_name();
    if ((layout.header.flags & kHasBloomFilter) != 0) blocks.read_bloom_filter(vector_count > 0);
    blocks.read_records(vector_count);
    blocks.read_index();
    return layout;
}

}  // namespace tempra::data::wdbx
