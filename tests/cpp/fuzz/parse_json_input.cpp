// The JSON reader, and the readers of records built on it.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/parse_input.h"
#include "io/json_reader.h"
#include "io/json_text.h"
#include "tempra/data/instruction_records.h"
#include "tempra/data/json_records.h"
#include "tempra/error.h"

namespace tempra::fuzz {

namespace {

bool is_utf8(std::string_view text) {
    return io::find_invalid_utf8(text) == std::string_view::npos;
}

void read_any(io::JsonReader& reader) {
    switch (reader.peek()) {
        case io::JsonType::object:
            reader.begin_object();
            for (std::string key; reader.next_key(key);) {
                require(is_utf8(key));
                read_any(reader);
            }
            return;
        case io::JsonType::array:
            reader.begin_array();
            while (reader.next_element()) read_any(reader);
            return;
        case io::JsonType::string: {
            // What was decoded can be written and read again.
            const std::string text = reader.read_string();
            require(is_utf8(io::quoted_name(text)));
            std::string written;
            io::append_json_string(written, text);
            require(io::JsonReader(written, "written").read_string() == text);
            return;
        }
        case io::JsonType::number: (void)reader.read_number(); return;
        case io::JsonType::boolean: (void)reader.read_boolean(); return;
        case io::JsonType::null: reader.read_null(); return;
    }
}

template <class Read>
bool accepts(std::string_view text, const Read& read) {
    try {
        io::JsonReader reader(text, "input", {1 << 20, 16});
        read(reader);
        reader.finish();
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

}  // namespace

void parse_json_reader(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const bool read = accepts(text, read_any);
    require(read == accepts(text, [](io::JsonReader& reader) { reader.skip_value(); }));
    // Readers of one type must refuse the others, not misread them.
    (void)accepts(text, [](io::JsonReader& reader) { (void)reader.read_integer(); });
    (void)accepts(text, [](io::JsonReader& reader) { (void)reader.read_boolean(); });
}

namespace {

// Feeds `text` in pieces whose sizes follow from `seed` (0: in one piece) and returns, as text, all
// that `take` says the reader has to give, the error that ends it included.
template <class Reader, class Take>
std::string read_in_pieces(Reader& reader, std::string_view text, unsigned seed, const Take& take) {
    std::string found;
    found.reserve(1024);
    unsigned state = seed;
    try {
        while (!text.empty()) {
            state = state * 1103515245U + 12345U;
            const size_t piece = seed == 0 ? text.size() : 1 + (state >> 16) % (1 + seed % 64);
            // A copy of its own, so that reading past its end is seen.
            const std::vector<char> bytes(
                text.begin(),
                text.begin() + static_cast<std::ptrdiff_t>(std::min(piece, text.size())));
            reader.feed({bytes.data(), bytes.size()});
            text.remove_prefix(bytes.size());
            take(reader, found);
        }
        reader.finish();
        take(reader, found);
    } catch (const FormatError& error) {
        found += std::string("error: ") + error.what();
    }
    return found;
}

void check_value(const io::JsonValue& value) {
    require(is_utf8(value.text()));
    if (value.has_lone_surrogate()) return;
    const std::string canonical = value.canonical();
    // What was read, written in the canonical form, is read as the same.
    io::JsonDocument again;
    again.read(canonical, "canonical");
    require(again.root().canonical() == canonical);
    require(again.root().is_something() == value.is_something());
}

void check_messages(const std::vector<data::Message>& messages, std::string& found) {
    for (const data::Message& message : messages) {
        require(is_utf8(message.content));
        require(data::is_same(message, message));
        found += std::string(data::role_name(message.role)) + ":" + message.content + ";";
        for (const data::MessageField& field : message.fields) {
            require(is_utf8(field.name));
            io::JsonDocument document;
            document.read(field.json, "field");
            found += field.name + "=" + field.json + ";";
        }
    }
    found += "\n";
}

void check_tools(const std::vector<std::string>& tools, std::string& found) {
    for (const std::string& tool : tools) {
        io::JsonDocument document;
        document.read(tool, "tool");
        require(!document.root().has_lone_surrogate());
        found += tool + ";";
    }
}

void check_example(const data::Example& example, std::string& found) {
    if (const auto* plain = std::get_if<data::PlainText>(&example)) {
        require(is_utf8(plain->text));
        found += plain->text + "\n";
    } else if (const auto* said = std::get_if<data::Conversation>(&example)) {
        check_messages(said->messages, found);
        check_tools(said->tools, found);
        bool answers = false;
        for (const auto& message : said->messages) answers |= message.role == data::Role::assistant;
        require(answers);
    } else {
        const auto& pair = std::get<data::PreferencePair>(example);
        for (const auto* turns : {&pair.prompt, &pair.chosen, &pair.rejected}) {
            require(!turns->empty());
            check_messages(*turns, found);
        }
        check_tools(pair.tools, found);
    }
}

}  // namespace

void parse_json_records(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return;
    const std::int64_t longest = data[0] % 4 == 0 ? data::kLongestRecord : data[0];
    const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
    const auto read = [&](unsigned seed) {
        data::JsonRecordReader reader("input", longest);
        return read_in_pieces(reader, text, seed, [&](auto& source, std::string& found) {
            for (data::JsonRecord record; source.next(record);) {
                require((record.document == nullptr) != record.problem.empty());
                found += std::to_string(record.line) + " " + record.problem + "\n";
                if (record.document == nullptr) continue;
                found += std::string(record.value().text()) + "\n";
                if (seed == 0) check_value(record.value());
            }
            require(source.pending_bytes() <= longest + 3);  // a byte order mark
        });
    };
    const std::string whole = read(0);
    // An odd byte has the whole alone: half of the executions cost half.
    require(data[1] % 2 == 1 || whole == read(1U + data[1]));
}

void parse_instruction_records(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return;
    const auto format = static_cast<data::RecordFormat>(data[0] % 6);
    const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
    const auto read = [&](unsigned seed) {
        data::InstructionReader reader("input", format);
        std::string found = read_in_pieces(reader, text, seed, [](auto& source, std::string& out) {
            for (data::LocatedExample located; source.next(located);) {
                require(is_utf8(located.problem));
                out += std::to_string(located.line) + " " + located.problem + "\n";
                if (located.problem.empty()) check_example(located.example, out);
            }
        });
        for (const auto& [name, count] : reader.ignored_fields()) {
            found += name + "*" + std::to_string(count) + ";";
        }
        return found;
    };
    const std::string whole = read(0);
    // An odd byte has the whole alone: half of the executions cost half.
    require(data[1] % 2 == 1 || whole == read(1U + data[1]));
}

}  // namespace tempra::fuzz
