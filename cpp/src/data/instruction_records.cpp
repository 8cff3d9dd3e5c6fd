#include "tempra/data/instruction_records.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/conversation_reader.h"
#include "data/record_fields.h"
#include "io/json_text.h"

namespace tempra::data {

namespace {

using io::JsonType;
using io::JsonValue;

// Names of formats and the fields that each reads, in the order of RecordFormat.
struct NamedFormat {
    std::string_view name;
    std::array<std::string_view, 5> reads;
};
constexpr std::array<NamedFormat, 6> kFormats = {{
    {"text", {}},
    {"alpaca", {"instruction", "input", "output", "system", "history"}},
    {"sharegpt", {"conversations", "system", "tools"}},
    {"messages", {"messages", "tools"}},
    {"prompt_completion", {"prompt", "completion", "tools"}},
    {"preference", {"prompt", "chosen", "rejected", "tools"}},
}};

bool is_answer(const Message& message) { return message.role == Role::assistant; }

Conversation with_answer(Messages messages, const JsonValue& record) {
    if (std::none_of(messages.begin(), messages.end(), is_answer)) {
        throw RecordError("has no answer of the assistant");
    }
    return {std::move(messages), read_tools(record)};
}

PlainText read_text(const JsonValue& record, std::string_view field) {
    const auto value = record.find(field);
    if (!value) {
        throw RecordError(format("has no field {} (it has {}); set data.text_field",
                                 shown_name(field), shown_field_names(record)));
    }
    return {check_text(*value, "field " + shown_name(field))};
}

Message alpaca_question(std::string asked, const std::string& instruction,
                        const std::string& input) {
    const auto as_json = [](const std::string& text) {
        std::string json;
        io::append_json_string(json, text);
        return json;
    };
    return {Role::user,
            std::move(asked),
            {{"instruction", as_json(instruction)}, {"input", as_json(input)}}};
}

void read_history(const JsonValue& record, Messages& messages) {
    const auto history = record.find("history");
    if (!history || history->type() == JsonType::null) return;
    check_type(*history, JsonType::array, "field 'history'");
    std::int64_t number = 0;
    history->each_element([&](const JsonValue& pair) {
        const std::string place = format("history[{}]", number++);
        if (pair.element_count() != 2) {
            throw RecordError(place + " is no pair of an instruction and an answer");
        }
        std::vector<std::string> said;
        pair.each_element([&](const JsonValue& part) {
            said.push_back(check_text(part, place));
            return true;
        });
        messages.push_back(alpaca_question(said[0], said[0], ""));
        messages.push_back({Role::assistant, std::move(said[1]), {}});
        return true;
    });
}

Conversation read_alpaca(const JsonValue& record) {
    const std::string instruction = read_filled_field(record, "instruction");
    const std::string input = read_optional_field(record, "input");
    Messages messages;
    if (std::string system = read_optional_field(record, "system"); !system.empty()) {
        messages.push_back({Role::system, std::move(system), {}});
    }
    read_history(record, messages);
    const std::string asked = is_blank(input) ? instruction : instruction + "\n\n" + input;
    messages.push_back(alpaca_question(asked, instruction, input));
    messages.push_back({Role::assistant, read_filled_field(record, "output"), {}});
    return {std::move(messages), {}};
}

Conversation read_sharegpt(const JsonValue& record) {
    Messages messages = read_list(record, "conversations", read_sharegpt_turn);
    std::string system = read_optional_field(record, "system");
    if (!system.empty() && messages[0].role != Role::system) {
        messages.insert(messages.begin(), {Role::system, std::move(system), {}});
    }
    return with_answer(std::move(messages), record);
}

Conversation read_prompt_completion(const JsonValue& record) {
    const auto is_list = [&record](std::string_view name) {
        const auto value = record.find(name);
        return value && value->type() == JsonType::array;
    };
    if (is_list("prompt") || is_list("completion")) {
        Messages messages = read_turns(record, "prompt", Role::user);
        Messages answer = read_turns(record, "completion", Role::assistant);
        std::move(answer.begin(), answer.end(), std::back_inserter(messages));
        return with_answer(std::move(messages), record);
    }
    std::string asked = read_field(record, "prompt");
    std::string answer = read_filled_field(record, "completion");
    return {{{Role::user, std::move(asked), {}}, {Role::assistant, std::move(answer), {}}}, {}};
}

bool is_same(const Messages& a, const Messages& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const Message& x, const Message& y) { return data::is_same(x, y); });
}

bool starts_with(const Messages& turns, const Messages& prompt) {
    if (turns.size() < prompt.size()) return false;
    return std::equal(prompt.begin(), prompt.end(), turns.begin(),
                      [](const Message& x, const Message& y) { return data::is_same(x, y); });
}

PreferencePair read_preference(const JsonValue& record) {
    PreferencePair pair;
    pair.prompt = read_turns(record, "prompt", Role::user);
    pair.chosen = read_turns(record, "chosen", Role::assistant);
    pair.rejected = read_turns(record, "rejected", Role::assistant);
    // Some files repeat the prompt in front of both answers.
    if (starts_with(pair.chosen, pair.prompt) && starts_with(pair.rejected, pair.prompt)) {
        const auto count = static_cast<std::ptrdiff_t>(pair.prompt.size());
        pair.chosen.erase(pair.chosen.begin(), pair.chosen.begin() + count);
        pair.rejected.erase(pair.rejected.begin(), pair.rejected.begin() + count);
    }
    for (const auto& [name, turns] :
         {std::pair<std::string_view, const Messages&>{"chosen", pair.chosen},
          std::pair<std::string_view, const Messages&>{"rejected", pair.rejected}}) {
        const bool answers = std::any_of(turns.begin(), turns.end(), [](const Message& turn) {
            return is_answer(turn) && says_something(turn);
        });
        if (!answers) throw RecordError(format("field '{}' has no answer of the assistant", name));
    }
    if (is_same(pair.chosen, pair.rejected)) {
        throw RecordError("fields 'chosen' and 'rejected' are the same");
    }
    pair.tools = read_tools(record);
    return pair;
}

}  // namespace

RecordFormat record_format(std::string_view name) {
    for (size_t i = 0; i < kFormats.size(); ++i) {
        if (kFormats[i].name == name) return static_cast<RecordFormat>(i);
    }
    throw ConfigError(
        format("record format: {} given, needs text, alpaca, sharegpt, messages, "
               "prompt_completion or preference",
               shown_name(name)));
}

Example read_instruction_record(const JsonValue& record, RecordFormat format,
                                std::string_view text_field) {
    if (record.type() != JsonType::object) {
        throw RecordError(
            tempra::format("holds a {}, needs an object", json_type_name(record.type())));
    }
    switch (format) {
        case RecordFormat::text: return read_text(record, text_field);
        case RecordFormat::alpaca: return read_alpaca(record);
        case RecordFormat::sharegpt: return read_sharegpt(record);
        case RecordFormat::messages:
            return with_answer(read_list(record, "messages", read_message), record);
        case RecordFormat::prompt_completion: return read_prompt_completion(record);
        default: return read_preference(record);
    }
}

bool InstructionReader::next(LocatedExample& located) {
    if (!records_.next(record_)) return false;
    located.line = record_.line;
    located.problem = record_.problem;
    if (record_.document == nullptr) return true;
    try {
        located.example = read_instruction_record(record_.value(), format_, text_field_);
        count_ignored(record_.value());
    } catch (const RecordError& error) {
        located.problem = error.what();
    }
    return true;
}

void InstructionReader::count_ignored(const JsonValue& record) {
    if (format_ == RecordFormat::text) return;
    const auto& reads = kFormats.at(static_cast<size_t>(format_)).reads;
    record.each_member([&](const JsonValue::Member& member) {
        const bool is_read = std::any_of(reads.begin(), reads.end(), [&](std::string_view name) {
            return !name.empty() && member.key.is_string(name);
        });
        if (!is_read) ++ignored_fields_[member.key.string()];
        return true;
    });
}

}  // namespace tempra::data
