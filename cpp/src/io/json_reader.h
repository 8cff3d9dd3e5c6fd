// Bounded JSON reader, for file headers and records. Values are pulled one by one and nothing is
// kept but the keys of the objects now open (duplicates are refused), so memory stays proportional
// to the text and hostile nesting costs nothing.
#pragma once

#include <cstdint>
#include <forward_list>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

#include "io/json_text.h"
#include "tempra/error.h"
#include "tempra/io/json_value.h"

namespace tempra::io {

struct JsonLimits {
    std::int64_t max_bytes = 100'000'000;
    int max_depth = 32;
    // Whether a string may have half a surrogate pair, which UTF-8 has no form for.
    bool lone_surrogates = false;
};

// What is wrong with a JSON text, and where: `what()` says both.
class JsonError : public FormatError {
  public:
    // `content`: it is JSON, but not of a kind that is read here.
    enum class Kind { syntax, too_deep, content };

    JsonError(const std::string& source, Kind kind, size_t position, const std::string& message)
        : FormatError(source + ": JSON, byte " + std::to_string(position) + ": " + message),
          kind_(kind),
          position_(position),
          message_(message) {}

    [[nodiscard]] Kind kind() const { return kind_; }
    [[nodiscard]] size_t position() const { return position_; }
    [[nodiscard]] const std::string& message() const { return message_; }

  private:
    Kind kind_;
    size_t position_;
    std::string message_;
};

// A string of the text, without its quotes, as it stands there.
struct JsonSpan {
    size_t begin = 0, end = 0;
    bool has_escapes = false, has_lone_surrogate = false;
};

// Usage: `reader.begin_object(); while (reader.next_key(key)) { ...read exactly one value... }`,
// arrays alike, and `finish()` at the end. Any deviation from RFC 8259, invalid UTF-8, a lone
// surrogate, a limit exceeded or a value of another type raises JsonError with the byte offset.
class JsonReader {
  public:
    // `source` opens error messages; `text` must outlive the reader.
    JsonReader(std::string_view text, std::string source, const JsonLimits& limits = {});

    [[nodiscard]] JsonType peek();
    void begin_object();
    // Moves to the next member; false, leaving the object, when there is none.
    [[nodiscard]] bool next_key(std::string& key);
    [[nodiscard]] bool next_key(JsonSpan& key);
    void begin_array();
    // Moves to the next element; false, leaving the array, when there is none.
    [[nodiscard]] bool next_element();

    [[nodiscard]] std::string read_string();
    // The same without decoding it.
    [[nodiscard]] JsonSpan scan_string();
    // Whole numbers without fraction or exponent that fit 64 bits are integers, all others doubles.
    [[nodiscard]] std::variant<std::int64_t, double> read_number();
    // Moves behind a number that a double has room for, or a whole one of any size up to
    // kMaxNumberCharacters.
    void scan_number();
    [[nodiscard]] std::int64_t read_integer();
    [[nodiscard]] bool read_boolean();
    void read_null();
    void skip_value();
    // Only white space may follow.
    void finish();

    // Where the reader is in the text; behind a call of `peek`, the first byte of a value.
    [[nodiscard]] size_t position() const { return position_; }
    // JsonError at the present position.
    [[noreturn]] void fail(const std::string& message,
                           JsonError::Kind kind = JsonError::Kind::syntax) const;

  private:
    struct Level {
        size_t first_key;  // in keys_
        bool is_first = true;
        std::unordered_set<std::string_view> many_keys;  // in use where there are many
    };

    void skip_space();
    [[nodiscard]] bool at(char expected) const;
    void expect(char expected, std::string_view what);
    void read_literal(std::string_view literal);
    void push_level();
    void pop_level();
    void add_key(std::string_view key);
    // Behind the digits of a number; whether it is whole.
    bool scan_digits();
    void skip_digits();
    void skip_plain_text();
    char32_t read_hex4();
    void scan_escape(JsonSpan& span);

    std::string_view text_;
    std::string source_;
    JsonLimits limits_;
    size_t position_ = 0;
    std::vector<Level> levels_;
    std::vector<std::string_view> keys_;           // of all levels, innermost last
    std::forward_list<std::string> decoded_keys_;  // those that were written with escapes
};

}  // namespace tempra::io
