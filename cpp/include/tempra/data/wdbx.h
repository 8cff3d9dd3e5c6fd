// WDBX containers: records of an id, a vector of floats and some bytes of metadata, with checksums.
// Version 3 is read and written, version 2 read.
//
// Errors are FormatErrors whose message begins with the file's name and one word for the kind:
// TruncatedData, InvalidMagic, UnsupportedVersion, InvalidFooter, CorruptedData, InvalidChecksum,
// InvalidBloomFilter, UnsupportedCompression, PayloadTooLarge.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tempra/data/id_runs.h"
#include "tempra/io/atomic_file.h"

namespace tempra::data {

struct WdbxHeader {
    int version = 3;
    std::uint16_t flags = 0;  // as stored; informative
    std::int64_t created_at = 0, modified_at = 0;
    std::uint32_t dimension = 0;  // floats per vector, 0 where there are no records
    std::uint8_t distance_metric = 0;
    std::uint8_t compression = 0;
    std::array<std::byte, 16> uuid{};
};

namespace wdbx_section {
inline constexpr std::uint16_t kMetadata = 1, kVectors = 2, kBloomFilter = 3, kVectorIndex = 4,
                               kLineage = 5, kDistributed = 6;
}

// A byte range of the file. Version 2 has blocks instead; they are listed as the sections that they
// correspond to, without their block headers.
struct WdbxSection {
    std::uint16_t type = 0;
    std::uint16_t flags = 0;
    std::uint32_t item_count = 0;  // as stored; never relied on
    std::int64_t offset = 0, length = 0;
};

struct WdbxLayout {
    WdbxHeader header;
    std::string name;                   // any bytes
    std::vector<WdbxSection> sections;  // in the order of the file's directory
    IdRuns ids;                         // of the records, in file order

    // The first section of the type; null when there is none.
    [[nodiscard]] const WdbxSection* find(std::uint16_t type) const noexcept;
};

struct WdbxReadOptions {
    // Without, what a damaged file holds may be wrong, but reading it remains safe.
    bool verify_checksums = true;
};

// Checks everything about a file's bytes; FormatError names `source`. Memory is bounded by the
// number of bytes given.
[[nodiscard]] WdbxLayout parse_wdbx(std::span<const std::byte> file, const std::string& source,
                                    const WdbxReadOptions& options = {});

// A record as it lies in its file, unaligned.
struct WdbxRecord {
    std::uint64_t id = 0;
    std::span<const std::byte> vector;  // f32
    std::span<const std::byte> metadata;
};

// Walks the bytes of a vectors section.
class WdbxRecordCursor {
  public:
    explicit WdbxRecordCursor(std::span<const std::byte> section) : rest_(section) {}
    // False at the end, and where no whole record follows.
    bool next(WdbxRecord& record);
    [[nodiscard]] std::span<const std::byte> rest() const noexcept { return rest_; }

  private:
    std::span<const std::byte> rest_;
};

// Neighbour lists of a vector index: those of node i are neighbours[begins[i]] to
// neighbours[begins[i + 1] - 1]. FormatError unless they fill the section exactly.
struct WdbxVectorIndex {
    std::uint32_t entry_point = 0, max_layer = 0;
    std::vector<std::uint64_t> begins;
    std::vector<std::uint32_t> neighbours;
};
[[nodiscard]] WdbxVectorIndex parse_wdbx_vector_index(std::span<const std::byte> section,
                                                      const std::string& source);

// A mapped file. As with every mapping, a file shortened by another process while open is fatal on
// the next touch (SIGBUS).
class WdbxFile {
  public:
    explicit WdbxFile(const std::string& path, const WdbxReadOptions& options = {});
    ~WdbxFile();
    WdbxFile(WdbxFile&&) noexcept;
    WdbxFile& operator=(WdbxFile&&) noexcept;

    [[nodiscard]] const std::string& path() const noexcept;
    [[nodiscard]] std::int64_t size() const noexcept;  // bytes
    [[nodiscard]] const WdbxLayout& layout() const noexcept;
    [[nodiscard]] std::span<const std::byte> bytes(const WdbxSection& section) const;
    [[nodiscard]] WdbxRecordCursor records() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// A section that is written as given, after the bloom filter.
struct WdbxExtraSection {
    std::uint16_t type = 0;
    std::uint16_t flags = 0;
    std::uint32_t item_count = 0;
    std::span<const std::byte> payload;  // must outlive the writer
};

struct WdbxContents {
    std::string name = "token_dataset";     // cut at 65535 bytes
    std::span<const std::byte> after_name;  // ignored by readers; must outlive the writer
    // Times, uuid, distance metric, the mark of "delta" compression (whose payload is plain floats)
    // and the flags that say nothing of sections are written, the rest follows from the records.
    WdbxHeader header;
    std::vector<WdbxExtraSection> extra_sections;
};
// What `file` holds beside its records and its bloom filter; valid while `file` lives.
[[nodiscard]] WdbxContents contents_of(const WdbxFile& file);

// Writes version 3, record by record; the file appears, whole, in `commit`. Equal contents and
// records give equal bytes.
class WdbxWriter {
  public:
    explicit WdbxWriter(const std::string& path, WdbxContents contents = {});
    ~WdbxWriter();
    WdbxWriter(WdbxWriter&&) noexcept;
    WdbxWriter& operator=(WdbxWriter&&) noexcept;

    // FormatError when the vector's length is not that of the records before.
    void append(std::uint64_t id, std::span<const float> vector,
                std::span<const std::byte> metadata);
    // The same in pieces: exactly `metadata_bytes` must be written before anything else.
    void begin_record(std::uint64_t id, std::span<const float> vector, std::int64_t metadata_bytes);
    void write_metadata(std::span<const std::byte> piece);
    // The same without a copy, where the bytes stay as they are until `commit`.
    void write_borrowed_metadata(std::span<const std::byte> piece);
    // All records of a file.
    void append_all(const WdbxFile& file);
    [[nodiscard]] std::uint64_t record_count() const noexcept;
    void set_check(io::WriteCheck check);
    // FormatError when an id was given twice.
    io::WrittenFile commit();

  private:
    void take_metadata(std::span<const std::byte> piece);
    void check_between_records(const char* operation) const;

    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace tempra::data
