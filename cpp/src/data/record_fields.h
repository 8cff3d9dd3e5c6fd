// Fields of a JSON record that must be of a kind; a RecordError names the one that is not.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tempra/io/json_value.h"

namespace tempra::data {

// In the words of the errors: text, list, object, ...
[[nodiscard]] std::string_view json_type_name(io::JsonType type);
// A name from a file in single quotes, cut where it is long.
[[nodiscard]] std::string shown_name(std::string_view name);
// The first few names of a record's fields.
[[nodiscard]] std::string shown_field_names(const io::JsonValue& record);

// Whether UTF-8 text has nothing but white space, all that Unicode knows.
[[nodiscard]] bool is_blank(std::string_view text);

// `name` opens the message of the errors.
void check_type(const io::JsonValue& value, io::JsonType type, std::string_view name);
[[nodiscard]] io::JsonValue check_there(const std::optional<io::JsonValue>& value,
                                        std::string_view name);
[[nodiscard]] std::string check_text(const io::JsonValue& value, std::string_view name);

[[nodiscard]] std::string read_field(const io::JsonValue& record, std::string_view name);
// A text with something in it that can be seen.
[[nodiscard]] std::string read_filled_field(const io::JsonValue& record, std::string_view name);
// Empty where the field is not there or null.
[[nodiscard]] std::string read_optional_field(const io::JsonValue& record, std::string_view name);

}  // namespace tempra::data
