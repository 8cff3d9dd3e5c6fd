#include "data/conversation_reader.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "data/record_fields.h"
#include "tempra/data/instruction_records.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

using io::JsonType;
using io::JsonValue;

struct NamedRole {
    std::string_view name;
    Role role;
};

constexpr std::array<NamedRole, 6> kRoles = {{
    {"system", Role::system},
    {"developer", Role::developer},
    {"user", Role::user},
    {"assistant", Role::assistant},
    {"tool", Role::tool},
    {"function", Role::tool},
}};
constexpr std::array<NamedRole, 14> kSharegptRoles = {{
    {"system", Role::system},
    {"human", Role::user},
    {"user", Role::user},
    {"gpt", Role::assistant},
    {"chatgpt", Role::assistant},
    {"bing", Role::assistant},
    {"bard", Role::assistant},
    {"model", Role::assistant},
    {"assistant", Role::assistant},
    {"function_call", Role::assistant},
    {"tool", Role::tool},
    {"function", Role::tool},
    {"function_response", Role::tool},
    {"observation", Role::tool},
}};
constexpr std::array<std::string_view, 2> kCalls = {"tool_calls", "function_call"};

Role find_role(const JsonValue& name, const std::string& place, std::span<const NamedRole> roles) {
    const std::string text = check_text(name, place);
    std::string known;
    for (const NamedRole& each : roles) {
        if (each.name == text) return each.role;
        known += known.empty() ? "" : ", ";
        known += each.name;
    }
    throw RecordError(format("{} is {}, needs one of {}", place, shown_name(text), known));
}

bool is_something(const std::string& json) {
    io::JsonDocument document;
    document.read(json, "field");
    return document.root().is_something();
}

std::vector<MessageField> other_fields(const JsonValue& turn, const std::string& place) {
    std::vector<MessageField> fields;
    turn.each_member([&](const JsonValue::Member& member) {
        if (member.key.is_string("role") || member.key.is_string("content")) return true;
        if (member.key.has_lone_surrogate() || member.value.has_lone_surrogate()) {
            throw RecordError(place + " has half a surrogate pair");
        }
        fields.push_back({member.key.string(), std::string(member.value.text())});
        return true;
    });
    return fields;
}

void append_text_part(std::string& text, const JsonValue& part, const std::string& place) {
    const auto kind = part.find("type");
    if (!kind || kind->type() != JsonType::string) {
        throw RecordError(place + " has a part without a type; only text can be trained on");
    }
    if (!kind->is_string("text")) {
        throw RecordError(format("{} has a part of type {}; only text can be trained on", place,
                                 shown_name(kind->string())));
    }
    text += check_text(check_there(part.find("text"), place + ".text"), place + ".text");
}

std::string read_content(const JsonValue& turn, const std::string& place) {
    const auto content = turn.find("content");
    if (!content || content->type() == JsonType::null) {
        const bool has_calls = std::any_of(kCalls.begin(), kCalls.end(), [&](auto name) {
            const auto calls = turn.find(name);
            return calls && calls->is_something();
        });
        if (has_calls) return {};
    }
    const JsonValue value = check_there(content, place + ".content");
    if (value.type() != JsonType::array) return check_text(value, place + ".content");
    std::string text;
    value.each_element([&](const JsonValue& part) {
        append_text_part(text, part, place + ".content");
        return true;
    });
    return text;
}

void check_answer(const Message& message, const std::string& place) {
    if (message.role == Role::assistant && !says_something(message)) {
        throw RecordError(place + " is an empty answer of the assistant");
    }
}

}  // namespace

std::string_view role_name(Role role) { return kRoles.at(static_cast<size_t>(role)).name; }

bool is_same(const Message& a, const Message& b) {
    if (a.role != b.role || a.content != b.content) return false;
    const auto canonical = [](const Message& message) {
        std::map<std::string_view, std::string> fields;
        for (const MessageField& field : message.fields) {
            io::JsonDocument document;
            document.read(field.json, "field");
            fields[field.name] = document.root().canonical();
        }
        return fields;
    };
    return canonical(a) == canonical(b);
}

bool says_something(const Message& message) {
    if (!is_blank(message.content)) return true;
    return std::any_of(message.fields.begin(), message.fields.end(), [](const MessageField& field) {
        const bool is_call = std::find(kCalls.begin(), kCalls.end(), field.name) != kCalls.end();
        return is_call && is_something(field.json);
    });
}

Message read_message(const JsonValue& turn, const std::string& place) {
    check_type(turn, JsonType::object, place);
    const JsonValue name = check_there(turn.find("role"), place + ".role");
    Message message;
    message.role = find_role(name, place + ".role", kRoles);
    message.fields = other_fields(turn, place);
    message.content = read_content(turn, place);
    check_answer(message, place);
    return message;
}

Message read_sharegpt_turn(const JsonValue& turn, const std::string& place) {
    check_type(turn, JsonType::object, place);
    Message message;
    message.role =
        find_role(check_there(turn.find("from"), place + ".from"), place + ".from", kSharegptRoles);
    message.content =
        check_text(check_there(turn.find("value"), place + ".value"), place + ".value");
    check_answer(message, place);
    return message;
}

Messages read_list(const JsonValue& record, std::string_view name, ReadTurn* read) {
    const auto turns = record.find(name);
    if (!turns) throw RecordError(format("has no field '{}'", name));
    check_type(*turns, JsonType::array, format("field '{}'", name));
    Messages messages;
    turns->each_element([&](const JsonValue& turn) {
        messages.push_back(read(turn, format("{}[{}]", name, messages.size())));
        return true;
    });
    if (messages.empty()) throw RecordError(format("field '{}' is an empty list", name));
    return messages;
}

Messages read_turns(const JsonValue& record, std::string_view name, Role role) {
    const auto value = record.find(name);
    if (value && value->type() == JsonType::array) return read_list(record, name, read_message);
    return {{role, read_field(record, name), {}}};
}

std::vector<std::string> read_tools(const JsonValue& record) {
    const auto tools = record.find("tools");
    if (!tools || tools->type() == JsonType::null || tools->is_string("")) return {};
    if (tools->has_lone_surrogate()) throw RecordError("field 'tools' has half a surrogate pair");
    if (tools->type() != JsonType::array) {
        (void)check_text(*tools, "field 'tools'");
        return {std::string(tools->text())};
    }
    std::vector<std::string> found;
    found.reserve(static_cast<size_t>(tools->element_count()));
    tools->each_element([&found](const JsonValue& tool) {
        found.emplace_back(tool.text());
        return true;
    });
    return found;
}

}  // namespace tempra::data
