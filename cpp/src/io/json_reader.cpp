#include "io/json_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

namespace tempra::io {

namespace {

// Objects with more keys than this look for a key in a hash table.
constexpr size_t kFewKeys = 16;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// High bits where a byte is a quote, a backslash or a control character; none elsewhere before the
// first of them.
std::uint64_t ends_of_plain_text(std::uint64_t eight) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kHighBits = 0x80 * kOnes;
    const std::uint64_t quote = eight ^ ('"' * kOnes), backslash = eight ^ ('\\' * kOnes);
    return (((eight - 0x20 * kOnes) & ~eight) | ((quote - kOnes) & ~quote) |
            ((backslash - kOnes) & ~backslash)) &
           kHighBits;
}

}  // namespace

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

void JsonReader::fail(const std::string& message, JsonError::Kind kind) const {
    throw JsonError(source_, kind, position_, message);
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
    if (!at(expected)) fail(std::string(what) + " expected");
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

void JsonReader::push_level() {
    if (static_cast<int>(levels_.size()) >= limits_.max_depth) {
        --position_;  // at the bracket
        fail(format("nested deeper than {} levels", limits_.max_depth), JsonError::Kind::too_deep);
    }
    levels_.push_back({keys_.size(), true, {}});
}

void JsonReader::pop_level() {
    keys_.resize(levels_.back().first_key);
    levels_.pop_back();
}

void JsonReader::begin_object() {
    expect('{', "an object");
    push_level();
}

void JsonReader::begin_array() {
    expect('[', "an array");
    push_level();
}

void JsonReader::add_key(std::string_view key) {
    Level& level = levels_.back();
    const auto first = keys_.begin() + static_cast<std::ptrdiff_t>(level.first_key);
    const size_t count = keys_.size() - level.first_key;
    if (count == kFewKeys) level.many_keys.insert(first, keys_.end());
    const bool is_new = count < kFewKeys ? std::find(first, keys_.end(), key) == keys_.end()
                                         : level.many_keys.insert(key).second;
    if (!is_new) fail(format("key {} appears twice", quoted_name(key)), JsonError::Kind::content);
    keys_.push_back(key);
}

bool JsonReader::next_key(JsonSpan& key) {
    skip_space();
    if (at('}')) {
        ++position_;
        pop_level();
        return false;
    }
    if (!levels_.back().is_first) expect(',', "',' or '}'");
    levels_.back().is_first = false;
    skip_space();
    if (!at('"')) fail("a key in quotes expected");
    key = scan_string();
    std::string_view name = text_.substr(key.begin, key.end - key.begin);
    if (key.has_escapes) name = decoded_keys_.emplace_front(decode_json_string(name));
    add_key(name);
    expect(':', "':'");
    return true;
}

bool JsonReader::next_key(std::string& key) {
    JsonSpan span;
    if (!next_key(span)) return false;
    key = keys_.back();
    return true;
}

bool JsonReader::next_element() {
    skip_space();
    if (at(']')) {
        // "[1,]" does not get here: after a comma a value is read first.
        ++position_;
        pop_level();
        return false;
    }
    if (!levels_.back().is_first) expect(',', "',' or ']'");
    levels_.back().is_first = false;
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

// Behind a backslash.
void JsonReader::scan_escape(JsonSpan& span) {
    constexpr std::string_view kKinds = "\"\\/bfnrtu";
    const char kind = position_ < text_.size() ? text_[position_] : '\0';
    if (kKinds.find(kind) == std::string_view::npos) fail("unknown escape in a string");
    span.has_escapes = true;
    ++position_;
    if (kind != 'u') return;
    const char32_t code = read_hex4();
    if (code < 0xD800 || code > 0xDFFF) return;
    const bool is_first = code < 0xDC00;
    if (is_first && text_.substr(position_, 2) == "\\u") {
        const size_t begin = position_;
        position_ += 2;
        const char32_t second = read_hex4();
        if (second >= 0xDC00 && second <= 0xDFFF) return;
        position_ = begin;  // an escape of its own
    }
    if (!limits_.lone_surrogates) {
        fail(format("{} half of a surrogate pair alone", is_first ? "first" : "second"));
    }
    span.has_lone_surrogate = true;
}

void JsonReader::skip_plain_text() {
    std::uint64_t eight = 0;
    while (text_.size() - position_ >= sizeof eight) {
        std::memcpy(&eight, text_.data() + position_, sizeof eight);
        if (ends_of_plain_text(eight) != 0) break;
        position_ += sizeof eight;
    }
    while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\\' &&
           static_cast<unsigned char>(text_[position_]) >= 0x20) {
        ++position_;
    }
}

JsonSpan JsonReader::scan_string() {
    expect('"', "a string");
    JsonSpan span;
    span.begin = position_;
    while (true) {
        skip_plain_text();
        if (position_ == text_.size()) fail("a string without its closing quote");
        const char c = text_[position_];
        if (c != '"' && c != '\\') fail("an unescaped control character in a string");
        ++position_;
        if (c == '"') {
            span.end = position_ - 1;
            return span;
        }
        scan_escape(span);
    }
}

std::string JsonReader::read_string() {
    const JsonSpan span = scan_string();
    const std::string_view inside = text_.substr(span.begin, span.end - span.begin);
    return span.has_escapes ? decode_json_string(inside) : std::string(inside);
}

void JsonReader::skip_digits() {
    if (position_ == text_.size() || !is_digit(text_[position_])) fail("a digit expected");
    while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
}

bool JsonReader::scan_digits() {
    if (peek() != JsonType::number) fail("a number expected");
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
    return is_whole;
}

std::variant<std::int64_t, double> JsonReader::read_number() {
    skip_space();
    const size_t begin = position_;
    const bool is_whole = scan_digits();
    const char* first = text_.data() + begin;
    const char* last = text_.data() + position_;
    std::int64_t integer = 0;
    if (is_whole && std::from_chars(first, last, integer).ec == std::errc()) return integer;
    double number = 0.0;
    if (std::from_chars(first, last, number).ec != std::errc()) {
        position_ = begin;
        fail("a number outside the range of a double", JsonError::Kind::content);
    }
    return number;
}

void JsonReader::scan_number() {
    skip_space();
    const size_t begin = position_;
    const bool is_whole = scan_digits();
    if (static_cast<std::int64_t>(position_ - begin) > kMaxNumberCharacters) {
        position_ = begin;
        fail(format("a number of more than {} characters", kMaxNumberCharacters),
             JsonError::Kind::content);
    }
    if (is_whole) return;
    position_ = begin;
    (void)read_number();
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
            for (JsonSpan key; next_key(key);) skip_value();
            return;
        }
        case JsonType::array: {
            begin_array();
            while (next_element()) skip_value();
            return;
        }
        case JsonType::string: static_cast<void>(scan_string()); return;
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
