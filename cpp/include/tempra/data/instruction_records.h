// Examples for training from JSON records, in the formats that such data comes in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "tempra/data/conversation.h"
#include "tempra/data/json_records.h"
#include "tempra/error.h"

namespace tempra::data {

// text: one field is the whole text. alpaca: instruction, output, and where there are any input,
// system, history. sharegpt: conversations, a list of from and value. messages: a list of role and
// content. prompt_completion, preference: prompt and completion, or prompt, chosen and rejected,
// each a text or a list of messages.
enum class RecordFormat { text, alpaca, sharegpt, messages, prompt_completion, preference };

// ConfigError for a name that is none of the above.
[[nodiscard]] RecordFormat record_format(std::string_view name);

// What is wrong with one record; says nothing of file and line.
struct RecordError : FormatError {
    using FormatError::FormatError;
};

// Reads a record; RecordError says what it lacks. `text_field` is the field that format text reads.
[[nodiscard]] Example read_instruction_record(const io::JsonValue& record, RecordFormat format,
                                              std::string_view text_field = "text");

// An example and the line it begins on, or why there is none.
struct LocatedExample {
    std::int64_t line = 0;
    Example example;
    std::string problem;  // empty where there is an example
};

// The examples of a file that arrives in pieces, fed and taken like a JsonRecordReader's records.
class InstructionReader {
  public:
    InstructionReader(std::string source, RecordFormat format, std::string text_field = "text",
                      std::int64_t longest_record = kLongestRecord)
        : records_(std::move(source), longest_record),
          format_(format),
          text_field_(std::move(text_field)) {}

    void feed(std::string_view bytes) { records_.feed(bytes); }
    void finish() { records_.finish(); }
    [[nodiscard]] bool next(LocatedExample& located);

    // How many examples had a field of that name, which the format has no use for.
    [[nodiscard]] const std::map<std::string, std::int64_t, std::less<>>& ignored_fields() const {
        return ignored_fields_;
    }

  private:
    void count_ignored(const io::JsonValue& record);

    JsonRecordReader records_;
    RecordFormat format_;
    std::string text_field_;
    std::map<std::string, std::int64_t, std::less<>> ignored_fields_;
    JsonRecord record_;
};

}  // namespace tempra::data
