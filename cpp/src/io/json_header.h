// Bounded JSON reader for file headers. Values are pulled one by one and nothing is kept but the
// keys of the objects now open (duplicates are refused), so memory stays proportional to the text
// and hostile nesting costs nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

namespace tempra::io {

struct JsonLimits {
    std::int64_t max_bytes = 100'000'000;
    int max_depth = 32;
};

enum class JsonType { object, array, string, number, boolean, null };

// Usage: `reader.begin_object(); while (reader.next_key(key)) { ...read exactly one value... }`,
// arrays alike, and `finish()` at the end. Any deviation from RFC 8259, invalid UTF-8, a lone
// surrogate, a limit exceeded or a value of another type raises FormatError with the byte offset.
class JsonReader {
  public:
    // `source` opens error messages; `text` must outlive the reader.
    JsonReader(std::string_view text, std::string source, const JsonLimits& limits = {});

    [[nodiscard]] JsonType peek();
    void begin_object();
    // Moves to the next member; false, leaving the object, when there is none.
    [[nodiscard]] bool next_key(std::string& key);
    void begin_array();
    // Moves to the next element; false, leaving the array, when there is none.
    [[nodiscard]] bool next_element();

    [[nodiscard]] std::string read_string();
    // Whole numbers without fraction or exponent that fit 64 bits are integers, all others doubles.
    [[nodiscard]] std::variant<std::int64_t, double> read_number();
    [[nodiscard]] std::int64_t read_integer();
    [[nodiscard]] bool read_boolean();
    void read_null();
    void skip_value();
    // Only white space may follow.
    void finish();

    // FormatError at the present position.
    [[noreturn]] void fail(std::string_view message) const;

  private:
    struct Level {
        bool is_object;
        bool is_first = true;
        std::unordered_set<std::string> keys;
    };

    void skip_space();
    [[nodiscard]] bool at(char expected) const;
    void expect(char expected, std::string_view what);
    void read_literal(std::string_view literal);
    void push_level(bool is_object);
    void skip_digits();
    char32_t read_hex4();
    void read_escape(std::string& out);

    std::string_view text_;
    std::string source_;
    JsonLimits limits_;
    size_t position_ = 0;
    std::vector<Level> levels_;
};

// Offset of the first byte that is not part of well-formed UTF-8; npos when all is.
[[nodiscard]] size_t find_invalid_utf8(std::string_view text);

// Appends `text` as a JSON string, quotes included.
void append_json_string(std::string& out, std::string_view text);

// A name from a file, fit for an error message: quoted, control characters escaped, cut at 80
// bytes.
[[nodiscard]] std::string quoted_name(std::string_view name);

}  // namespace tempra::io
