// What reading and writing WDBX files share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/little_endian.h"
#include "tempra/data/wdbx.h"
#include "tempra/error.h"

namespace tempra::data::wdbx {

using Bytes = std::span<const std::byte>;

inline constexpr std::string_view kMagic = "WDBX";
inline constexpr std::int64_t kMagicAndVersionBytes = 6;
inline constexpr std::int64_t kRecordHeaderBytes = 16;
inline constexpr std::int64_t kFloatBytes = 4;
inline constexpr std::int64_t kNameLengthBytes = 2;
inline constexpr std::int64_t kMaxNameBytes = 0xFFFF;

namespace v3 {
inline constexpr std::int64_t kHeaderBytes = 80, kEntryBytes = 32, kFooterBytes = 40;
inline constexpr std::string_view kFooterMarker = "END3";
inline constexpr std::uint16_t kHasDirectory = 1, kHasMetadata = 2, kHasVectors = 4, kHasIndex = 8,
                               kHasLineage = 16, kHasDistributed = 32, kCompressed = 64,
                               kEncrypted = 128;
// What of a file's flags is kept when it is written again; the others follow from its sections.
inline constexpr std::uint16_t kKept = 0xFF00 | kCompressed;
}  // namespace v3

namespace v2 {
inline constexpr std::int64_t kHeaderBytes = 64, kFooterBytes = 32;
inline constexpr std::string_view kFooterMarker{"END\0", 4};
inline constexpr std::uint16_t kHasBloomFilter = 1, kEncrypted = 8, kCompressed = 16;
inline constexpr std::int64_t kBloomBlockBytes = 8, kVectorBlockBytes = 16, kIndexBlockBytes = 4;
inline constexpr std::uint8_t kBloomBlock = 2, kIndexBlock = 3, kVectorBlock = 4;
}  // namespace v2

// What is wrong, in the words of the format.
inline constexpr std::string_view kTruncatedData = "TruncatedData", kInvalidMagic = "InvalidMagic",
                                  kUnsupportedVersion = "UnsupportedVersion",
                                  kInvalidFooter = "InvalidFooter",
                                  kCorruptedData = "CorruptedData",
                                  kInvalidChecksum = "InvalidChecksum",
                                  kInvalidBloomFilter = "InvalidBloomFilter",
                                  kUnsupportedCompression = "UnsupportedCompression",
                                  kPayloadTooLarge = "PayloadTooLarge";

template <class... Arguments>
[[noreturn]] void fail(const std::string& source, std::string_view kind, std::string_view pattern,
                       const Arguments&... arguments) {
    throw FormatError(format("{}: {}: {}", source, kind, format(pattern, arguments...)));
}

inline Bytes slice(Bytes bytes, std::int64_t offset, std::int64_t length) {
    return bytes.subspan(static_cast<size_t>(offset), static_cast<size_t>(length));
}

inline bool has_text(Bytes bytes, size_t offset, std::string_view text) {
    return std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

// Both expect a whole header and footer, and leave nothing unchecked.
[[nodiscard]] WdbxLayout parse_v3(Bytes file, const std::string& source,
                                  const WdbxReadOptions& options);
[[nodiscard]] WdbxLayout parse_v2(Bytes file, const std::string& source,
                                  const WdbxReadOptions& options);

void check_stored_as_floats(const WdbxHeader& header, bool encrypted, const std::string& source);
void check_compression(int compression, const std::string& source);
void check_checksum(const std::string& source, std::string_view what, std::uint32_t found,
                    std::uint32_t stated);
void check_unique(const IdRuns& ids, const std::string& source);

// Walks the neighbour lists at the beginning of `bytes`; `visit(node list's bytes)` for each.
// Returns the bytes walked, -1 when a list runs past the end.
template <class Visit>
std::int64_t walk_vector_index(Bytes bytes, const Visit& visit) {
    constexpr std::int64_t kIndexHeaderBytes = 12, kNumberBytes = 4;
    const auto size = static_cast<std::int64_t>(bytes.size());
    if (size < kIndexHeaderBytes) return -1;
    std::int64_t position = kIndexHeaderBytes;
    for (auto nodes = load<std::uint32_t>(bytes, 8); nodes > 0; --nodes) {
        if (size - position < kNumberBytes) return -1;
        const std::int64_t length =
            kNumberBytes * std::int64_t{load<std::uint32_t>(bytes, static_cast<size_t>(position))};
        position += kNumberBytes;
        if (size - position < length) return -1;
        visit(slice(bytes, position, length));
        position += length;
    }
    return position;
}

}  // namespace tempra::data::wdbx
