// WDTK token blocks: some tokens and an optional text, the metadata of one WDBX record.
//
// Layout: "WDTK", u16 version 1, u16 flags 0, u32 number of tokens, u32 bytes of text; the tokens,
// u32; the text. An empty text and none are the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tempra::data {

// A block as it lies in its file: nothing is copied, and nothing is aligned.
struct TokenBlock {
    std::int64_t token_count = 0;
    const std::byte* tokens = nullptr;  // 4 * token_count bytes
    std::string_view text;              // empty: none

    // Copies tokens [begin, begin + out.size()); ShapeError when they do not all exist.
    void read(std::int64_t begin, std::span<std::uint32_t> out) const;
};

inline constexpr std::int64_t kTokenBlockHeaderBytes = 16;
// What the length of a WDBX record's metadata, a u32, allows.
inline constexpr std::int64_t kMaxTokenBlockBytes = 0xFFFFFFFF;

// FormatError, naming `source`, unless the bytes begin with a whole block. Flags and bytes after
// the text are ignored.
[[nodiscard]] TokenBlock parse_token_block(std::span<const std::byte> bytes,
                                           const std::string& source);

// Bytes of a block; FormatError (PayloadTooLarge) beyond kMaxTokenBlockBytes.
[[nodiscard]] std::int64_t token_block_bytes(std::int64_t token_count, std::int64_t text_bytes,
                                             const std::string& source);

// Writes the first kTokenBlockHeaderBytes of a block; counts as token_block_bytes accepts them.
void write_token_block_header(std::byte* out, std::int64_t token_count, std::int64_t text_bytes);

}  // namespace tempra::data
