#include "io/json_reader.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"
#include "tempra/error.h"

namespace tempra::io {
namespace {

// Reads any value and says what it found, in a canonical form.
std::string canonical(JsonReader& reader) {
    switch (reader.peek()) {
        case JsonType::object: {
            std::string out = "{";
            reader.begin_object();
            for (std::string key; reader.next_key(key);) {
                append_json_string(out, key);
                out += ":" + canonical(reader) + ",";
            }
            return out + "}";
        }
        case JsonType::array: {
            std::string out = "[";
            reader.begin_array();
            while (reader.next_element()) out += canonical(reader) + ",";
            return out + "]";
        }
        case JsonType::string: {
            std::string out;
            append_json_string(out, reader.read_string());
            return out;
        }
        case JsonType::number: {
            const auto number = reader.read_number();
            if (const auto* integer = std::get_if<std::int64_t>(&number)) {
                return "i" + std::to_string(*integer);
            }
            return format("d{}", std::get<double>(number));
        }
        case JsonType::boolean: return reader.read_boolean() ? "true" : "false";
        case JsonType::null: reader.read_null(); return "null";
    }
    return "?";
}

std::string parse(std::string_view text, const JsonLimits& limits = {}) {
    // An exact copy on the heap, so that reading past the end is seen by AddressSanitizer.
    const std::vector<char> copy(text.begin(), text.end());
    JsonReader reader({copy.data(), copy.size()}, "t", limits);
    const std::string out = canonical(reader);
    reader.finish();
    JsonReader skipper({copy.data(), copy.size()}, "t", limits);
    skipper.skip_value();
    skipper.finish();
    return out;
}

std::string error_in(std::string_view text, const JsonLimits& limits = {}) {
    return error_of<FormatError>([&] { (void)parse(text, limits); });
}

TEST(JsonReader, ReadsEveryKindOfValue) {
    EXPECT_EQ(parse(R"( {"a" : [1, -2.5, true, false, null, "x"], "b": {}} )"),
              R"({"a":[i1,d-2.5,true,false,null,"x",],"b":{},})");
    EXPECT_EQ(parse("[]"), "[]");
    EXPECT_EQ(parse("0"), "i0");
    EXPECT_EQ(parse("-0"), "i0");
    EXPECT_EQ(parse("9223372036854775807"), "i9223372036854775807");
    EXPECT_EQ(parse("-9223372036854775808"), "i-9223372036854775808");
    EXPECT_EQ(parse("9223372036854775808"), "d9.22337e+18");
    EXPECT_EQ(parse("1e3"), "d1000");
    EXPECT_EQ(parse("12E-1"), "d1.2");
    EXPECT_EQ(parse("0.5e+1"), "d5");
}

TEST(JsonReader, DecodesStrings) {
    EXPECT_EQ(parse(R"("\"\\\/\b\f\n\r\t")"), R"("\"\\/\b\f\n\r\t")");
    EXPECT_EQ(parse(R"("\u00e9\u20AC\ud83d\ude00A")"), "\"\u00e9\u20ac\U0001F600A\"");
    EXPECT_EQ(parse(R"("\u0000\u001f")"), R"("\u0000\u001f")");
    EXPECT_EQ(parse("\"\u00e9\u20ac\U0001F600\""), "\"\u00e9\u20ac\U0001F600\"");
}

TEST(JsonReader, RefusesWhatIsNotJson) {
    EXPECT_EQ(error_in(""), "t: JSON, byte 0: a value expected, the text ends");
    EXPECT_EQ(error_in("  "), "t: JSON, byte 2: a value expected, the text ends");
    EXPECT_EQ(error_in("{\"a\":1} x"), "t: JSON, byte 8: text after the end of the value");
    for (const char* text : {"{",
                             "[",
                             "{]",
                             "[}",
                             "[1,]",
                             "[,1]",
                             "[1 2]",
                             "{\"a\":1,}",
                             "{\"a\"}",
                             "{\"a\":}",
                             "{a:1}",
                             "{\"a\":1 \"b\":2}",
                             "{,}",
                             "tru",
                             "trux",
                             "nul",
                             "falsy",
                             "+1",
                             "-",
                             "01",
                             "-01",
                             "1.",
                             ".5",
                             "1e",
                             "1e+",
                             "0x1",
                             "NaN",
                             "Infinity",
                             "\"abc",
                             "\"\\",
                             "\"\\x\"",
                             "\"\\u12\"",
                             "\"\\u12g4\"",
                             "\"a\nb\"",
                             "'a'",
                             "[1]]",
                             "1e999",
                             "\"\\ud800\"",
                             "\"\\ud800\\n\"",
                             "\"\\ud800\\u0041\"",
                             "\"\\udc00\"",
                             "\"\\uD83D\\u\"",
                             "/* c */ 1",
                             "\xEF\xBB\xBF{}"}) {
        EXPECT_THROW((void)parse(text), FormatError) << text;
    }
    EXPECT_THROW((void)parse(std::string_view("\"a\0b\"", 5)), FormatError);
}

TEST(JsonReader, RefusesDuplicateKeysAlsoWhenSpelledDifferently) {
    EXPECT_EQ(error_in(R"({"a":1,"b":2,"a":3})"), "t: JSON, byte 16: key \"a\" appears twice");
    EXPECT_THROW((void)parse(R"({"a":1,"\u0061":3})"), FormatError);
    EXPECT_THROW((void)parse(R"({"x":{"a":1,"a":2}})"), FormatError);
    EXPECT_EQ(parse(R"({"x":{"a":1},"a":2})"), R"({"x":{"a":i1,},"a":i2,})");
    // Also where there are many: inner objects have keys of their own.
    std::string many = R"({"x":{"k1":1})";
    for (int i = 0; i < 40; ++i) many += ",\"k" + std::to_string(i) + "\":" + std::to_string(i);
    EXPECT_NO_THROW((void)parse(many + "}"));
    EXPECT_THROW((void)parse(many + R"(,"k3":1})"), FormatError);
    EXPECT_THROW((void)parse(many + R"(,"\u006b39":1})"), FormatError);
}

TEST(JsonReader, KeepsItsLimits) {
    EXPECT_EQ(parse("[[[1]]]", {100, 3}), "[[[i1,],],]");
    EXPECT_EQ(error_in("[[[[1]]]]", {100, 3}), "t: JSON, byte 3: nested deeper than 3 levels");
    EXPECT_THROW((void)parse(R"({"a":{"a":{"a":{}}}})", {100, 3}), FormatError);
    EXPECT_THROW((void)parse(std::string(100'000, '[')), FormatError);
    EXPECT_EQ(error_in("[1,2,3]", {6, 3}), "t: JSON of 7 bytes, at most 6 are allowed");
}

TEST(JsonReader, RefusesInvalidUtf8) {
    EXPECT_EQ(error_in("\"ab\xff\""), "t: JSON, byte 3: invalid UTF-8");
    const auto valid = [](std::string_view text) {
        return find_invalid_utf8(text) == std::string_view::npos;
    };
    // First and last code point of each length and around the surrogates.
    for (const char* text :
         {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
          "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
        EXPECT_TRUE(valid(text)) << text;
    }
    for (const char* text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x7F", "\xC2\xC0",
                             "\xE0\x9F\xBF", "\xE1\x80", "\xE1\x80\xC0", "\xED\xA0\x80",
                             "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF1\x80\x80", "\xF1\x80\x80\x7F",
                             "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
        EXPECT_FALSE(valid(text));
        EXPECT_EQ(find_invalid_utf8(std::string("ok") + text), 2U);
    }
}

TEST(JsonReader, LetsLoneSurrogatesThroughWhereAsked) {
    const auto flags = [](std::string_view text) {
        JsonReader reader(text, "t", {100, 4, true});
        const JsonSpan span = reader.scan_string();
        reader.finish();
        EXPECT_EQ(span.end - span.begin, text.size() - 2);
        return std::pair(span.has_escapes, span.has_lone_surrogate);
    };
    EXPECT_EQ(flags(R"("plain")"), std::pair(false, false));
    EXPECT_EQ(flags(R"("\n \ud83d\ude00")"), std::pair(true, false));
    EXPECT_EQ(flags(R"("\ud83d")"), std::pair(true, true));
    EXPECT_EQ(flags(R"("\ude00\ud83d")"), std::pair(true, true));
    // The first half that has no second does not take another's.
    EXPECT_EQ(decode_json_string(R"(\ud83d\ud83d\ude00)"), "\xED\xA0\xBD\xF0\x9F\x98\x80");
    EXPECT_EQ(decode_json_string(R"(\ud83dn\u00E9)"), "\xED\xA0\xBDn\u00e9");
}

TEST(JsonReader, FindsInvalidUtf8WhereverItLies) {
    // Eight bytes at a time where they are ASCII: every place and every length around that.
    for (size_t length = 1; length < 40; ++length) {
        for (size_t place = 0; place < length; ++place) {
            std::string text(length, 'x');
            EXPECT_EQ(find_invalid_utf8(text), std::string::npos);
            text[place] = '\xFF';
            EXPECT_EQ(find_invalid_utf8(text), place) << length;
            std::string string(length + 2, 'x');
            string.front() = string.back() = '"';
            string[1 + place] = '\n';
            EXPECT_EQ(error_in(string), "t: JSON, byte " + std::to_string(1 + place) +
                                            ": an unescaped control character in a string");
        }
    }
    EXPECT_EQ(count_characters("a\u00e9\xF0\x9F\x98\x80"), 3U);
}

TEST(JsonReader, WrongTypesAreNamed) {
    const auto error = [](std::string_view text, auto&& read) {
        JsonReader reader(text, "t");
        return error_of<FormatError>([&] { read(reader); });
    };
    EXPECT_EQ(error("1", [](JsonReader& r) { r.begin_object(); }),
              "t: JSON, byte 0: an object expected");
    EXPECT_EQ(error("1", [](JsonReader& r) { r.begin_array(); }),
              "t: JSON, byte 0: an array expected");
    EXPECT_EQ(error("1", [](JsonReader& r) { (void)r.read_string(); }),
              "t: JSON, byte 0: a string expected");
    EXPECT_EQ(error("true", [](JsonReader& r) { (void)r.read_number(); }),
              "t: JSON, byte 0: a number expected");
    EXPECT_EQ(error("\"1\"", [](JsonReader& r) { (void)r.read_integer(); }),
              "t: JSON, byte 0: an integer expected");
    EXPECT_EQ(error(" 1.5", [](JsonReader& r) { (void)r.read_integer(); }),
              "t: JSON, byte 1: an integer of at most 63 bits expected");
    EXPECT_EQ(error("1", [](JsonReader& r) { (void)r.read_boolean(); }),
              "t: JSON, byte 0: true or false expected");
    EXPECT_EQ(error("1", [](JsonReader& r) { r.read_null(); }), "t: JSON, byte 0: null expected");
    JsonReader reader("17", "t");
    EXPECT_EQ(reader.read_integer(), 17);
}

TEST(JsonReader, NamesInMessagesAreShortAndPrintable) {
    EXPECT_EQ(quoted_name("a\n\x01"), R"("a\n\u0001")");
    EXPECT_EQ(quoted_name(std::string(200, 'x')), "\"" + std::string(80, 'x') + "\"...");
    // Cut before a sequence that does not fit whole.
    const std::string name = std::string(79, 'x') + "\u00e9\u00e9";
    EXPECT_EQ(quoted_name(name), "\"" + std::string(79, 'x') + "\"...");
}

}  // namespace
}  // namespace tempra::io
