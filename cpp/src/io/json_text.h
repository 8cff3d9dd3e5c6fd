// Text as JSON has it: UTF-8, and strings with their escapes.
#pragma once

#include <string>
#include <string_view>

namespace tempra::io {

// Offset of the first byte that is not part of well-formed UTF-8; npos when all is.
[[nodiscard]] size_t find_invalid_utf8(std::string_view text);

// Code points in well-formed UTF-8.
[[nodiscard]] size_t count_characters(std::string_view text);

// Appends a code point; half a surrogate pair becomes three bytes, which are not UTF-8.
void append_utf8(std::string& out, char32_t code);

// The text of a JSON string that a JsonReader has found sound, without its quotes. Half a surrogate
// pair becomes three bytes, which are not UTF-8.
[[nodiscard]] std::string decode_json_string(std::string_view inside);

// Appends `text` as a JSON string, quotes included.
void append_json_string(std::string& out, std::string_view text);

// A name from a file, fit for an error message: quoted, control characters escaped, cut at 80
// bytes.
[[nodiscard]] std::string quoted_name(std::string_view name);

}  // namespace tempra::io
