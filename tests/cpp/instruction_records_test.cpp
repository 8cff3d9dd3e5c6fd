// The rules of each format are tested through Python (tests/python/test_instruction_formats.py);
// here what a C++ host sees of them.
#include "tempra/data/instruction_records.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace tempra::data {
namespace {

std::vector<LocatedExample> read(std::string_view text, RecordFormat format) {
    InstructionReader reader("t", format);
    std::vector<LocatedExample> found;
    LocatedExample located;
    reader.feed(text);
    reader.finish();
    while (reader.next(located)) found.push_back(located);
    return found;
}

std::string problem(std::string_view text, RecordFormat format) {
    return read(text, format).at(0).problem;
}

TEST(InstructionRecords, AlpacaBecomesAConversation) {
    InstructionReader reader("t", RecordFormat::alpaca);
    reader.feed(R"({"instruction":"Add.","input":"1\n2","output":"3","id":7})");
    reader.feed("\n{\"output\":\"3\"}\n");
    reader.finish();
    LocatedExample located;
    ASSERT_TRUE(reader.next(located));
    const auto& said = std::get<Conversation>(located.example);
    ASSERT_EQ(said.messages.size(), 2U);
    EXPECT_EQ(said.messages[0].role, Role::user);
    EXPECT_EQ(said.messages[0].content, "Add.\n\n1\n2");
    ASSERT_EQ(said.messages[0].fields.size(), 2U);
    EXPECT_EQ(said.messages[0].fields[1].name, "input");
    EXPECT_EQ(said.messages[0].fields[1].json, R"("1\n2")");
    EXPECT_EQ(role_name(said.messages[1].role), "assistant");
    ASSERT_TRUE(reader.next(located));
    EXPECT_EQ(located.line, 2);
    EXPECT_EQ(located.problem, "has no field 'instruction' (it has 'output')");
    EXPECT_FALSE(reader.next(located));
    EXPECT_EQ(reader.ignored_fields().size(), 1U);
    EXPECT_EQ(reader.ignored_fields().at("id"), 1);
}

TEST(InstructionRecords, FieldsAndToolsKeepTheirText) {
    const auto found = read(
        R"([{"messages": [{"role": "assistant", "content": null, "tool_calls": [ {"b":1e0,"a": "\u00e9"} ]}],
             "tools": [ {"z": 1,  "a":2} , "x"]}])",
        RecordFormat::messages);
    const auto& said = std::get<Conversation>(found.at(0).example);
    EXPECT_EQ(said.messages[0].content, "");
    EXPECT_EQ(said.messages[0].fields.at(0).json, R"([ {"b":1e0,"a": "\u00e9"} ])");
    EXPECT_EQ(said.tools, (std::vector<std::string>{R"({"z": 1,  "a":2})", R"("x")"}));
}

TEST(InstructionRecords, ARepeatedPromptIsKnownHoweverItIsWritten) {
    const auto found = read(
        R"({"prompt": [{"role":"user","content":"a","n":{"x":1,"y":2}}],
"chosen": [{"role":"user","content":"a","n":{"y":2.0,"x":1}},{"role":"assistant","content":"b"}],
"rejected": [{"role":"user","content":"a","n":{"x":1,"y":2}},{"role":"assistant","content":"c"}]})"
        "\n",
        RecordFormat::preference);
    // Three lines, none of which is a record: the same as one line is.
    EXPECT_EQ(found.size(), 3U);
    const auto pairs = read(
        R"([{"prompt": [{"role":"user","content":"a","n":{"x":1,"y":2}}],
"chosen": [{"role":"user","content":"a","n":{"y":2.0,"x":1}},{"role":"assistant","content":"b"}],
"rejected": [{"role":"user","content":"a","n":{"x":1,"y":2}},{"role":"assistant","content":"c"}]}])",
        RecordFormat::preference);
    const auto& pair = std::get<PreferencePair>(pairs.at(0).example);
    EXPECT_EQ(pair.prompt.size(), 1U);
    ASSERT_EQ(pair.chosen.size(), 1U);
    EXPECT_EQ(pair.chosen[0].content, "b");
    EXPECT_EQ(pair.rejected.at(0).content, "c");
    EXPECT_FALSE(is_same(pair.chosen[0], pair.rejected[0]));
}

TEST(InstructionRecords, ProblemsNameThePlace) {
    EXPECT_EQ(problem(R"({"text": "a\ud800"})", RecordFormat::text),
              "field 'text' has half a surrogate pair at character 1");
    EXPECT_EQ(problem("[[3]]", RecordFormat::alpaca), "holds a list, needs an object");
    EXPECT_EQ(problem(R"({"instruction": "\u3000\u00a0", "output": "x"})", RecordFormat::alpaca),
              "field 'instruction' is empty");
    EXPECT_EQ(problem(R"({"conversations": [{"from": "gpt", "value": "x"}, {"from": "me"}]})",
                      RecordFormat::sharegpt)
                  .substr(0, 60),
              "conversations[1].from is 'me', needs one of system, human, u");
    EXPECT_EQ(problem(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})",
                      RecordFormat::messages),
              "messages[0].content has a part of type 'image'; only text can be trained on");
}

TEST(InstructionRecords, FormatsHaveNames) {
    EXPECT_EQ(record_format("text"), RecordFormat::text);
    EXPECT_EQ(record_format("preference"), RecordFormat::preference);
    EXPECT_EQ(error_of<ConfigError>([] { (void)record_format("alpacca"); }),
              "record format: 'alpacca' given, needs text, alpaca, sharegpt, messages, "
              "prompt_completion or preference");
}

}  // namespace
}  // namespace tempra::data
