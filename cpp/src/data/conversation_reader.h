// Turns of conversations and definitions of tools, as records of the several formats hold them. A
// RecordError names the place of what cannot be read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tempra/data/conversation.h"
#include "tempra/io/json_value.h"

namespace tempra::data {

using Messages = std::vector<Message>;

// Whether a message has text that can be seen, or calls a tool.
[[nodiscard]] bool says_something(const Message& message);

// Reads one turn; `place` opens the message of the errors.
using ReadTurn = Message(const io::JsonValue& turn, const std::string& place);
// {"role", "content", ...}; other fields are kept as they are.
[[nodiscard]] ReadTurn read_message;
// {"from", "value"}
[[nodiscard]] ReadTurn read_sharegpt_turn;

// A field that is a list of turns, at least one.
[[nodiscard]] Messages read_list(const io::JsonValue& record, std::string_view name,
                                 ReadTurn* read);
// A field that is a text of one role or a list of messages.
[[nodiscard]] Messages read_turns(const io::JsonValue& record, std::string_view name, Role role);
// The definitions of tools; some files hold them as JSON inside a text.
[[nodiscard]] std::vector<std::string> read_tools(const io::JsonValue& record);

}  // namespace tempra::data
