#include "data/record_fields.h"

#include <algorithm>

#include "io/json_text.h"
#include "tempra/data/instruction_records.h"

namespace tempra::data {

namespace {

using io::JsonType;
using io::JsonValue;

constexpr int kShownNames = 8;

// White space beyond ASCII, as UTF-8.
constexpr std::string_view kWideSpaces[] = {
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

// Bytes of the white space that a text (not empty) starts with; 0 where it starts with none.
size_t space_at_start(std::string_view text) {
    const char c = text[0];
    if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F)) return 1;
    for (const std::string_view space : kWideSpaces) {
        if (text.substr(0, space.size()) == space) return space.size();
    }
    return 0;
}

}  // namespace

std::string_view json_type_name(JsonType type) {
    constexpr std::string_view kNames[] = {"object", "list", "text", "number", "boolean", "null"};
    return kNames[static_cast<size_t>(type)];
}

std::string shown_name(std::string_view name) {
    std::string quoted = io::quoted_name(name);
    quoted.front() = '\'';
    quoted[quoted.rfind('"')] = '\'';
    return quoted;
}

std::string shown_field_names(const JsonValue& record) {
    std::string names;
    int count = 0;
    record.each_member([&](const JsonValue::Member& member) {
        names += names.empty() ? "" : ", ";
        names += shown_name(member.key.string());
        return ++count < kShownNames;
    });
    return names.empty() ? "no fields" : names;
}

bool is_blank(std::string_view text) {
    while (!text.empty()) {
        const size_t space = space_at_start(text);
        if (space == 0) return false;
        text.remove_prefix(space);
    }
    return true;
}

void check_type(const JsonValue& value, JsonType type, std::string_view name) {
    if (value.type() == type) return;
    const std::string_view article = type == JsonType::object  ? "an "
                                     : type == JsonType::array ? "a "
                                                               : "";
    throw RecordError(format("{} is of type {}, needs {}{}", name, json_type_name(value.type()),
                             article, json_type_name(type)));
}

JsonValue check_there(const std::optional<JsonValue>& value, std::string_view name) {
    if (!value) throw RecordError(format("{} is missing", name));
    return *value;
}

std::string check_text(const JsonValue& value, std::string_view name) {
    check_type(value, JsonType::string, name);
    std::string text = value.string();
    if (value.has_lone_surrogate()) {
        const size_t place = io::find_invalid_utf8(text);
        throw RecordError(format("{} has half a surrogate pair at character {}", name,
                                 io::count_characters(text.substr(0, place))));
    }
    return text;
}

std::string read_field(const JsonValue& record, std::string_view name) {
    const auto value = record.find(name);
    if (!value) {
        throw RecordError(format("has no field '{}' (it has {})", name, shown_field_names(record)));
    }
    return check_text(*value, "field '" + std::string(name) + "'");
}

std::string read_filled_field(const JsonValue& record, std::string_view name) {
    std::string text = read_field(record, name);
    if (is_blank(text)) throw RecordError(format("field '{}' is empty", name));
    return text;
}

std::string read_optional_field(const JsonValue& record, std::string_view name) {
    const auto value = record.find(name);
    return !value || value->type() == JsonType::null ? std::string() : read_field(record, name);
}

}  // namespace tempra::data
