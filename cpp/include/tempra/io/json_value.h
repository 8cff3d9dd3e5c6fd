// A JSON value as a tree of places in its text: 16 bytes a value, nothing decoded before it is
// asked for, and every part at hand exactly as it was written.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tempra::io {

enum class JsonType : std::uint8_t { object, array, string, number, boolean, null };

// Arrays and objects inside each other that a value may have; deeper ones are refused.
constexpr int kMaxJsonDepth = 256;
// Digits and signs that a number may have; more are refused.
constexpr std::int64_t kMaxNumberCharacters = 1000;

class JsonDocument;
class JsonReader;
struct JsonSpan;

// A value inside a JsonDocument, which must outlive it.
class JsonValue {
  public:
    // A key of an object and what it stands for.
    struct Member;

    [[nodiscard]] JsonType type() const;
    // As it was written, without white space around it; well-formed UTF-8.
    [[nodiscard]] std::string_view text() const;
    // The text of a string. Where has_lone_surrogate, not UTF-8: half a pair has three bytes.
    [[nodiscard]] std::string string() const;
    // Whether this is the string `text`.
    [[nodiscard]] bool is_string(std::string_view text) const;
    // Whether a string is not empty, an array or object has something in it, a number is not 0, a
    // boolean is true; null is not.
    [[nodiscard]] bool is_something() const;
    // Whether half a surrogate pair is in a string here or anywhere inside, keys included.
    [[nodiscard]] bool has_lone_surrogate() const;

    // Each element of an array, each member of an object, in order; `visit` returns false to stop.
    void each_element(const std::function<bool(JsonValue)>& visit) const;
    void each_member(const std::function<bool(Member)>& visit) const;
    // The member of that name, if this is an object and has one.
    [[nodiscard]] std::optional<JsonValue> find(std::string_view name) const;
    [[nodiscard]] std::int64_t element_count() const;

    // The same text for values that are equal: members sorted, numbers and escapes written in one
    // way.
    [[nodiscard]] std::string canonical() const;

  private:
    friend class JsonDocument;
    JsonValue(const JsonDocument& document, std::uint32_t index)
        : document_(&document), index_(index) {}
    [[nodiscard]] JsonValue at(std::uint32_t index) const { return {*document_, index}; }
    [[nodiscard]] std::uint32_t behind() const;
    void append_canonical(std::string& out) const;

    const JsonDocument* document_;
    std::uint32_t index_;
};

struct JsonValue::Member {
    JsonValue key, value;
};

class JsonDocument {
  public:
    // Reads the value that `text` consists of; it must outlive this and what is taken from it.
    // JsonError (a FormatError, `io/json_reader.h`) for what is no JSON by RFC 8259, an object that
    // has a key twice, a number beyond a double, nesting beyond kMaxJsonDepth. Half a surrogate
    // pair is let through, as whoever needs the string it is in can tell.
    void read(std::string_view text, const std::string& source);

    [[nodiscard]] JsonValue root() const { return {*this, 0}; }

  private:
    friend class JsonValue;
    // Children follow their parent; members are a string, the key, and then the value.
    struct Node {
        std::uint32_t begin, end;  // in the text
        std::uint32_t behind;      // the node behind this one and all that is inside it
        JsonType type;
        bool has_escapes, has_lone_surrogate;
    };
    void add_value(JsonReader& reader);
    void add_string(const JsonSpan& inside);

    std::string_view text_;
    std::vector<Node> nodes_;
};

}  // namespace tempra::io
