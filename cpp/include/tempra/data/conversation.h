// What one example of a data set is: a conversation, a preference pair, or plain text.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tempra::data {

enum class Role { system, developer, user, assistant, tool };

[[nodiscard]] std::string_view role_name(Role role);

// What else a file says of a message, as it says it: tool calls, names, ids.
struct MessageField {
    std::string name;
    std::string json;
};

// One turn. A user's turn of the Alpaca format has `instruction` and `input` among its fields,
// because that format's template sets them apart.
struct Message {
    Role role = Role::user;
    std::string content;
    std::vector<MessageField> fields;
};

// Whether two messages say the same, however their fields are written.
[[nodiscard]] bool is_same(const Message& a, const Message& b);

// Turns in order, at least one of them the assistant's; each of `tools` as JSON, as the file has
// it.
struct Conversation {
    std::vector<Message> messages;
    std::vector<std::string> tools;
};

// One prompt with a better and a worse way to go on.
struct PreferencePair {
    std::vector<Message> prompt, chosen, rejected;
    std::vector<std::string> tools;
};

// A document without turns.
struct PlainText {
    std::string text;
};

using Example = std::variant<PlainText, Conversation, PreferencePair>;

}  // namespace tempra::data
