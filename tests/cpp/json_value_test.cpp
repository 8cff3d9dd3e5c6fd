#include "tempra/io/json_value.h"

#include <gtest/gtest.h>

#include "io/json_reader.h"
#include "temporary_directory.h"
#include "tempra/error.h"

namespace tempra::io {
namespace {

TEST(JsonValue, IsATreeOfPlaces) {
    const std::string text = R"( {"a": [1, {"b" : "x\n"}, true], "c\u0064": null} )";
    JsonDocument document;
    document.read(text, "t");
    const JsonValue root = document.root();
    EXPECT_EQ(root.type(), JsonType::object);
    EXPECT_EQ(root.text(), text.substr(1, text.size() - 2));
    const JsonValue list = root.find("a").value();
    EXPECT_EQ(list.text(), R"([1, {"b" : "x\n"}, true])");
    EXPECT_EQ(list.element_count(), 3);
    std::vector<std::string> elements;
    list.each_element([&](const JsonValue& element) {
        elements.emplace_back(element.text());
        return elements.size() < 2;  // stops
    });
    EXPECT_EQ(elements, (std::vector<std::string>{"1", R"({"b" : "x\n"})"}));
    EXPECT_EQ(root.find("cd")->type(), JsonType::null);
    EXPECT_FALSE(root.find("b"));
    EXPECT_FALSE(list.find("a"));
    EXPECT_EQ(root.element_count(), 0);
    document.read(R"("x\n")", "t");
    EXPECT_EQ(document.root().string(), "x\n");
    EXPECT_TRUE(document.root().is_string("x\n"));
    EXPECT_FALSE(document.root().is_string("x\\n"));
}

TEST(JsonValue, KnowsWhereHalfASurrogatePairIs) {
    const std::string text = R"({"a": {"\ud800": 1}, "b": ["\udc00"], "c": "\ud83d\ude00"})";
    JsonDocument document;
    document.read(text, "t");
    EXPECT_TRUE(document.root().has_lone_surrogate());
    EXPECT_TRUE(document.root().find("a")->has_lone_surrogate());
    EXPECT_TRUE(document.root().find("b")->has_lone_surrogate());
    EXPECT_FALSE(document.root().find("c")->has_lone_surrogate());
}

TEST(JsonValue, SaysWhetherThereIsSomething) {
    const auto is_something = [](const std::string& text) {
        JsonDocument document;
        document.read(text, "t");
        return document.root().is_something();
    };
    for (const char* text : {"{}", "[ ]", "\"\"", "0", "-0.00", "0e5", "false", "null"}) {
        EXPECT_FALSE(is_something(text)) << text;
    }
    for (const char* text : {R"({"a":0})", "[0]", "\" \"", "1e-3", "0.001", "true"}) {
        EXPECT_TRUE(is_something(text)) << text;
    }
}

TEST(JsonValue, EqualValuesHaveOneForm) {
    const auto canonical = [](const std::string& text) {
        JsonDocument document;
        document.read(text, "t");
        return document.root().canonical();
    };
    EXPECT_EQ(canonical(R"({ "b" : [1.0, -0, 1e2], "a" : "\u00e9\/" })"),
              "{\"a\":\"\u00e9/\",\"b\":[1,0,100]}");
    // Whole numbers that a double cannot tell apart stay apart.
    EXPECT_EQ(canonical("[9007199254740993, {}, []]"), "[9007199254740993,{},[]]");
    EXPECT_EQ(canonical(std::string(999, '7')), std::string(999, '7'));
}

TEST(JsonValue, HasLimits) {
    const auto error = [](const std::string& text) {
        return error_of<FormatError>([&] { JsonDocument().read(text, "t"); });
    };
    const auto nested = [](int depth) {
        return std::string(static_cast<size_t>(depth), '[') +
               std::string(static_cast<size_t>(depth), ']');
    };
    EXPECT_NO_THROW(JsonDocument().read(nested(kMaxJsonDepth), "t"));
    EXPECT_EQ(error(nested(kMaxJsonDepth + 1)), "t: JSON, byte 256: nested deeper than 256 levels");
    EXPECT_EQ(error(std::string(1001, '1')),
              "t: JSON, byte 0: a number of more than 1000 characters");
    EXPECT_EQ(error("[1e999]"), "t: JSON, byte 1: a number outside the range of a double");
    EXPECT_EQ(error(R"({"a":1,"a":2})"), "t: JSON, byte 10: key \"a\" appears twice");
    EXPECT_EQ(error("NaN"), "t: JSON, byte 0: a value expected");
    EXPECT_EQ(error("1 2"), "t: JSON, byte 2: text after the end of the value");
}

}  // namespace
}  // namespace tempra::io
