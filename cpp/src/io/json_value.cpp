#include "tempra/io/json_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "io/json_reader.h"

namespace tempra::io {

namespace {

void append_canonical_number(std::string& out, std::string_view text) {
    double number = 0.0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool is_whole = text.find_first_of(".eE") == std::string_view::npos;
    constexpr double kExact = 9007199254740992.0;  // whole numbers below are exact in a double
    if (is_whole && (read.ec != std::errc() || std::abs(number) >= kExact)) {
        out += text;
        return;
    }
    char digits[32];
    if (number == 0.0) number = 0.0;  // not -0
    out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

}  // namespace

void JsonDocument::add_string(const JsonSpan& inside) {
    const auto begin = static_cast<std::uint32_t>(inside.begin - 1);
    const auto end = static_cast<std::uint32_t>(inside.end + 1);
    nodes_.push_back({begin, end, static_cast<std::uint32_t>(nodes_.size() + 1), JsonType::string,
                      inside.has_escapes, inside.has_lone_surrogate});
}

void JsonDocument::add_value(JsonReader& reader) {
    // Recursion is bounded by kMaxJsonDepth.
    const JsonType type = reader.peek();
    if (type == JsonType::string) {
        add_string(reader.scan_string());
        return;
    }
    const size_t index = nodes_.size();
    nodes_.push_back({static_cast<std::uint32_t>(reader.position()), 0, 0, type, false, false});
    switch (type) {
        case JsonType::object:
            reader.begin_object();
            for (JsonSpan key; reader.next_key(key);) {
                add_string(key);
                add_value(reader);
            }
            break;
        case JsonType::array:
            reader.begin_array();
            while (reader.next_element()) add_value(reader);
            break;
        case JsonType::number: reader.scan_number(); break;
        case JsonType::boolean: (void)reader.read_boolean(); break;
        default: reader.read_null(); break;
    }
    nodes_[index].end = static_cast<std::uint32_t>(reader.position());
    nodes_[index].behind = static_cast<std::uint32_t>(nodes_.size());
}

void JsonDocument::read(std::string_view text, const std::string& source) {
    text_ = text;
    nodes_.clear();
    JsonReader reader(text, source,
                      {std::numeric_limits<std::int32_t>::max(), kMaxJsonDepth, true});
    add_value(reader);
    reader.finish();
}

JsonType JsonValue::type() const { return document_->nodes_[index_].type; }

std::uint32_t JsonValue::behind() const { return document_->nodes_[index_].behind; }

std::string_view JsonValue::text() const {
    const JsonDocument::Node& node = document_->nodes_[index_];
    return document_->text_.substr(node.begin, node.end - node.begin);
}

std::string JsonValue::string() const {
    const std::string_view written = text(), inside = written.substr(1, written.size() - 2);
    return document_->nodes_[index_].has_escapes ? decode_json_string(inside) : std::string(inside);
}

bool JsonValue::is_string(std::string_view expected) const {
    if (type() != JsonType::string) return false;
    if (document_->nodes_[index_].has_escapes) return string() == expected;
    const std::string_view written = text();
    return written.substr(1, written.size() - 2) == expected;
}

bool JsonValue::is_something() const {
    switch (type()) {
        case JsonType::object:
        case JsonType::array: return behind() > index_ + 1;
        case JsonType::string: return text().size() > 2;
        case JsonType::number: {
            const std::string_view mantissa = text().substr(0, text().find_first_of("eE"));
            return mantissa.find_first_of("123456789") != std::string_view::npos;
        }
        case JsonType::boolean: return text() == "true";
        default: return false;
    }
}

bool JsonValue::has_lone_surrogate() const {
    const auto begin = document_->nodes_.begin();
    return std::any_of(begin + index_, begin + behind(),
                       [](const JsonDocument::Node& node) { return node.has_lone_surrogate; });
}

void JsonValue::each_element(const std::function<bool(JsonValue)>& visit) const {
    if (type() != JsonType::array) return;
    for (std::uint32_t index = index_ + 1; index < behind(); index = at(index).behind()) {
        if (!visit(at(index))) return;
    }
}

void JsonValue::each_member(const std::function<bool(Member)>& visit) const {
    if (type() != JsonType::object) return;
    for (std::uint32_t key = index_ + 1; key < behind(); key = at(key + 1).behind()) {
        if (!visit({at(key), at(key + 1)})) return;
    }
}

std::optional<JsonValue> JsonValue::find(std::string_view name) const {
    std::optional<JsonValue> found;
    each_member([&](const Member& member) {
        if (member.key.is_string(name)) found = member.value;
        return !found;
    });
    return found;
}

std::int64_t JsonValue::element_count() const {
    std::int64_t count = 0;
    each_element([&count](const JsonValue&) {
        ++count;
        return true;
    });
    return count;
}

std::string JsonValue::canonical() const {
    std::string out;
    append_canonical(out);
    return out;
}

void JsonValue::append_canonical(std::string& out) const {
    // Recursion is bounded by kMaxJsonDepth.
    switch (type()) {
        case JsonType::object: {
            std::vector<std::pair<std::string, JsonValue>> members;
            each_member([&members](const Member& member) {
                members.emplace_back(member.key.string(), member.value);
                return true;
            });
            std::sort(members.begin(), members.end(),
                      [](const auto& a, const auto& b) { return a.first < b.first; });
            out += '{';
            for (const auto& [name, value] : members) {
                if (out.back() != '{') out += ',';
                append_json_string(out, name);
                out += ':';
                value.append_canonical(out);
            }
            out += '}';
            return;
        }
        case JsonType::array: {
            const size_t begin = out.size();
            each_element([&out, begin](const JsonValue& element) {
                out += out.size() == begin ? '[' : ',';
                element.append_canonical(out);
                return true;
            });
            out += out.size() == begin ? "[]" : "]";
            return;
        }
        case JsonType::string: append_json_string(out, string()); return;
        case JsonType::number: append_canonical_number(out, text()); return;
        default: out += text(); return;
    }
}

}  // namespace tempra::io
