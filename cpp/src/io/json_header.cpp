#include "io/json_header.h"

#include <charconv>
#include <utility>

#include "tempra/error.h"

namespace tempra::io {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, char32_t code) {
    const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | (code >> 6));
        put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(0xE0 | (code >> 12));
        put(0x80 | ((code >> 6) & 0x3F));
        put(0x80 | (code & 0x3F));
    } else {
        put(0xF0 | (code >> 18));
        put(0x80 | ((code >> 12) & 0x3F));
        put(0x80 | ((code >> 6) & 0x3F));
        put(0x80 | (code & 0x3F));
    }
}

// Length of the well-formed sequence at the start of `text` (not empty); 0 when there is none.
// Ranges of the second byte as in the Unicode standard, table 3-7.
size_t utf8_sequence_length(std::string_view text) {
    const auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    size_t length = 0;
    unsigned low = 0x80, high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        if (first == 0xE0) low = 0xA0;   // shorter forms exist
        if (first == 0xED) high = 0x9F;  // surrogates
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        if (first == 0xF0) low = 0x90;   // shorter forms exist
        if (first == 0xF4) high = 0x8F;  // beyond U+10FFFF
    }
    if (length == 0 || text.size() < length) return 0;
    if (byte(1) < low || byte(1) > high) return 0;
    for (size_t i = 2; i < length; ++i) {
        if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
    }
    return length;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
    size_t position = 0;
    while (position < text.size()) {
        const size_t length = utf8_sequence_length(text.substr(position));
        if (length == 0) return position;
        position += length;
    }
    return std::string_view::npos;
}

void append_json_string(std::string& out, std::string_view text) {
    constexpr const char* kHex = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    out += "\\u00";
                    out += kHex[c >> 4];
                    out += kHex[c & 15];
                } else {
                    out += c;
                }
        }
    }
    out += '"';
}

std::string quoted_name(std::string_view name) {
    constexpr size_t kMaxBytes = 80;
    std::string_view shown = name.substr(0, kMaxBytes);
    // Never more than three bytes: a sequence cut in two.
    if (const size_t bad = find_invalid_utf8(shown); bad != std::string_view::npos) {
        shown = shown.substr(0, bad);
    }
    std::string out;
    append_json_string(out, shown);
    if (shown.size() < name.size()) out += "...";
    return out;
}

JsonReader::JsonReader(std::string_view text, std::string source, const JsonLimits& limits)
    : text_(text), source_(std::move(source)), limits_(limits) {
    TEMPRA_CHECK(FormatError, static_cast<std::int64_t>(text.size()) <= limits.max_bytes,
                 "{}: JSON of {} bytes, at most {} are allowed", source_, text.size(),
                 limits.max_bytes);
    if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
        position_ = bad;
        fail("invalid UTF-8");
    }
}

void JsonReader::fail(std::string_view message) const {
    throw FormatError(format("{}: JSON, byte {}: {}", source_, position_, message));
}

void JsonReader::skip_space() {
    while (position_ < text_.size()) {
        const char c = text_[position_];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
        ++position_;
    }
}

bool JsonReader::at(char expected) const {
    return position_ < text_.size() && text_[position_] == expected;
}

void JsonReader::expect(char expected, std::string_view what) {
    skip_space();
    if (!at(expected)) fail(format("{} expected", what));
    ++position_;
}

JsonType JsonReader::peek() {
    skip_space();
    if (position_ == text_.size()) fail("a value expected, the text ends");
    switch (text_[position_]) {
        case '{': return JsonType::object;
        case '[': return JsonType::array;
        case '"': return JsonType::string;
        case 't':
        case 'f': return JsonType::boolean;
        case 'n': return JsonType::null;
        default: break;
    }
    if (text_[position_] != '-' && !is_digit(text_[position_])) fail("a value expected");
    return JsonType::number;
}

void JsonReader::push_level(bool is_object) {
    if (static_cast<int>(levels_.size()) >= limits_.max_depth) {
        fail(format("nested deeper than {} levels", limits_.max_depth));
    }
    levels_.push_back({is_object, true, {}});
}

void JsonReader::begin_object() {
    expect('{', "an object");
    push_level(true);
}

void JsonReader::begin_array() {
    expect('[', "an array");
    push_level(false);
}

bool JsonReader::next_key(std::string& key) {
    Level& level = levels_.back();
    skip_space();
    if (at('}')) {
        ++position_;
        levels_.pop_back();
        return false;
    }
    if (!level.is_first) expect(',', "',' or '}'");
    level.is_first = false;
    skip_space();
    if (!at('"')) fail("a key in quotes expected");
    key = read_string();
    if (!level.keys.insert(key).second) fail(format("key {} appears twice", quoted_name(key)));
    expect(':', "':'");
    return true;
}

bool JsonReader::next_element() {
    Level& level = levels_.back();
    skip_space();
    if (at(']')) {
        // "[1,]" does not get here: after a comma a value is read first.
        ++position_;
        levels_.pop_back();
        return false;
    }
    if (!level.is_first) expect(',', "',' or ']'");
    level.is_first = false;
    return true;
}

char32_t JsonReader::read_hex4() {
    char32_t code = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
        const char c = position_ < text_.size() ? text_[position_] : '\0';
        char32_t digit = 0;
        if (is_digit(c)) {
            digit = static_cast<char32_t>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = static_cast<char32_t>(c - 'a' + 10);
        } else if (c >= 'A' && c <= 'F') {
            digit = static_cast<char32_t>(c - 'A' + 10);
        } else {
            fail("four hexadecimal digits expected after \\u");
        }
        code = code * 16 + digit;
    }
    return code;
}

void JsonReader::read_escape(std::string& out) {
    const char kind = position_ < text_.size() ? text_[position_] : '\0';
    ++position_;
    switch (kind) {
        case '"':
        case '\\':
        case '/': out += kind; return;
        case 'b': out += '\b'; return;
        case 'f': out += '\f'; return;
        case 'n': out += '\n'; return;
        case 'r': out += '\r'; return;
        case 't': out += '\t'; return;
        case 'u': break;
        default: --position_; fail("unknown escape in a string");
    }
    char32_t code = read_hex4();
    if (code >= 0xDC00 && code <= 0xDFFF) fail("second half of a surrogate pair alone");
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (text_.substr(position_, 2) != "\\u") fail("first half of a surrogate pair alone");
        position_ += 2;
        const char32_t second = read_hex4();
        if (second < 0xDC00 || second > 0xDFFF) fail("first half of a surrogate pair alone");
        code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
    }
    append_utf8(out, code);
}

std::string JsonReader::read_string() {
    expect('"', "a string");
    std::string out;
    while (true) {
        const size_t begin = position_;
        while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\\' &&
               static_cast<unsigned char>(text_[position_]) >= 0x20) {
            ++position_;
        }
        out += text_.substr(begin, position_ - begin);
        if (position_ == text_.size()) fail("a string without its closing quote");
        const char c = text_[position_];
        if (c != '"' && c != '\\') fail("an unescaped control character in a string");
        ++position_;
        if (c == '"') return out;
        read_escape(out);
    }
}

void JsonReader::skip_digits() {
    if (position_ == text_.size() || !is_digit(text_[position_])) fail("a digit expected");
    while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
}

std::variant<std::int64_t, double> JsonReader::read_number() {
    if (peek() != JsonType::number) fail("a number expected");
    const size_t begin = position_;
    if (at('-')) ++position_;
    if (at('0')) {
        ++position_;
        if (position_ < text_.size() && is_digit(text_[position_])) {
            fail("a number must not start with 0");
        }
    } else {
        skip_digits();
    }
    bool is_whole = true;
    if (at('.')) {
        is_whole = false;
        ++position_;
        skip_digits();
    }
    if (at('e') || at('E')) {
        is_whole = false;
        ++position_;
        if (at('+') || at('-')) ++position_;
        skip_digits();
    }
    const char* first = text_.data() + begin;
    const char* last = text_.data() + position_;
    std::int64_t integer = 0;
    if (is_whole && std::from_chars(first, last, integer).ec == std::errc()) return integer;
    double number = 0.0;
    if (std::from_chars(first, last, number).ec != std::errc()) {
        position_ = begin;
        fail("a number outside the range of a double");
    }
    return number;
}

std::int64_t JsonReader::read_integer() {
    if (peek() != JsonType::number) fail("an integer expected");
    const size_t begin = position_;
    const auto number = read_number();
    if (const auto* integer = std::get_if<std::int64_t>(&number)) return *integer;
    position_ = begin;
    fail("an integer of at most 63 bits expected");
}

void JsonReader::read_literal(std::string_view literal) {
    skip_space();
    if (text_.substr(position_, literal.size()) != literal) fail(format("{} expected", literal));
    position_ += literal.size();
}

bool JsonReader::read_boolean() {
    if (peek() != JsonType::boolean) fail("true or false expected");
    const bool value = at('t');
    read_literal(value ? "true" : "false");
    return value;
}

void JsonReader::read_null() { read_literal("null"); }

void JsonReader::skip_value() {
    // Recursion is bounded by limits_.max_depth.
    switch (peek()) {
        case JsonType::object: {
            begin_object();
            for (std::string key; next_key(key);) skip_value();
            return;
        }
        case JsonType::array: {
            begin_array();
            while (next_element()) skip_value();
            return;
        }
        case JsonType::string: static_cast<void>(read_string()); return;
        case JsonType::number: static_cast<void>(read_number()); return;
        case JsonType::boolean: static_cast<void>(read_boolean()); return;
        case JsonType::null: read_null(); return;
    }
}

void JsonReader::finish() {
    skip_space();
    if (position_ != text_.size()) fail("text after the end of the value");
}

}  // namespace tempra::io
