#include "io/json_text.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tempra::io {

namespace {

constexpr std::uint64_t kHighBits = 0x8080808080808080;

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

bool is_surrogate(char32_t code) { return code >= 0xD800 && code <= 0xDFFF; }

char32_t hex4(std::string_view digits) {
    char32_t code = 0;
    for (const char c : digits.substr(0, 4)) {
        const char lower = static_cast<char>(c | 0x20);
        code = code * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : lower - 'a' + 10);
    }
    return code;
}

// Decodes the escape that starts behind the backslash; how many bytes it has.
size_t append_escape(std::string& out, std::string_view rest) {
    switch (rest[0]) {
        case 'b': out += '\b'; return 1;
        case 'f': out += '\f'; return 1;
        case 'n': out += '\n'; return 1;
        case 'r': out += '\r'; return 1;
        case 't': out += '\t'; return 1;
        case 'u': break;
        default: out += rest[0]; return 1;
    }
    const char32_t first = hex4(rest.substr(1));
    if (first < 0xDC00 && is_surrogate(first) && rest.substr(5, 2) == "\\u") {
        const char32_t second = hex4(rest.substr(7));
        if (second >= 0xDC00 && is_surrogate(second)) {
            append_utf8(out, 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
            return 11;
        }
    }
    append_utf8(out, first);
    return 5;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
    size_t position = 0;
    while (position < text.size()) {
        std::uint64_t eight = kHighBits;
        if (text.size() - position >= sizeof eight) {
            std::memcpy(&eight, text.data() + position, sizeof eight);
        }
        if ((eight & kHighBits) == 0) {
            position += sizeof eight;
            continue;
        }
        const size_t length = utf8_sequence_length(text.substr(position));
        if (length == 0) return position;
        position += length;
    }
    return std::string_view::npos;
}

size_t count_characters(std::string_view text) {
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) >> 6) != 2;
    }));
}

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

std::string decode_json_string(std::string_view inside) {
    std::string out;
    out.reserve(inside.size());
    while (true) {
        const size_t backslash = inside.find('\\');
        out += inside.substr(0, backslash);
        if (backslash == std::string_view::npos) return out;
        inside.remove_prefix(backslash + 1);
        inside.remove_prefix(append_escape(out, inside));
    }
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

}  // namespace tempra::io
