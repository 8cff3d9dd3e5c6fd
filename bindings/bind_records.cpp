// JSON records and the examples in them, a piece of a file at a time.
#include <charconv>
#include <string>

#include "bindings.h"
#include "tempra/data/instruction_records.h"
#include "tempra/data/json_records.h"
#include "tempra/error.h"
#include "tempra/io/json_value.h"

namespace tempra::python {

namespace {

py::object to_str(std::string_view text) {
    // Half a surrogate pair is one in Python as well.
    PyObject* decoded =
        PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "surrogatepass");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(decoded);
}

py::object to_number(const std::string& text) {
    std::int64_t whole = 0;
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, whole);
    if (read.ec == std::errc() && read.ptr == end) return py::int_(whole);
    const bool is_whole = text.find_first_of(".eE") == std::string::npos;
    PyObject* number = nullptr;
    if (is_whole) {
        number = PyLong_FromString(text.c_str(), nullptr, 10);
    } else {
        double value = 0.0;
        (void)std::from_chars(text.data(), end, value);
        number = PyFloat_FromDouble(value);
    }
    if (number == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(number);
}

// Recursion is bounded by io::kMaxJsonDepth.
py::object to_python(const io::JsonValue& value) {
    switch (value.type()) {
        case io::JsonType::object: {
            py::dict members;
            value.each_member([&members](const io::JsonValue::Member& member) {
                members[to_str(member.key.string())] = to_python(member.value);
                return true;
            });
            return members;
        }
        case io::JsonType::array: {
            py::list elements;
            value.each_element([&elements](const io::JsonValue& element) {
                elements.append(to_python(element));
                return true;
            });
            return elements;
        }
        case io::JsonType::string: return to_str(value.string());
        case io::JsonType::number: return to_number(std::string(value.text()));
        case io::JsonType::boolean: return py::bool_(value.text() == "true");
        default: return py::none();
    }
}

py::object to_python(const std::string& json) {
    io::JsonDocument document;
    document.read(json, "field");
    return to_python(document.root());
}

py::tuple to_tuple(const std::vector<data::Message>& messages) {
    py::tuple turns(messages.size());
    for (size_t i = 0; i < messages.size(); ++i) {
        const data::Message& message = messages[i];
        py::dict fields;
        for (const data::MessageField& field : message.fields) {
            fields[to_str(field.name)] = to_python(field.json);
        }
        turns[i] = py::make_tuple(to_str(data::role_name(message.role)), to_str(message.content),
                                  std::move(fields));
    }
    return turns;
}

py::tuple to_tuple(const std::vector<std::string>& tools) {
    py::tuple found(tools.size());
    for (size_t i = 0; i < tools.size(); ++i) found[i] = to_python(tools[i]);
    return found;
}

py::object to_python(const data::Example& example) {
    if (const auto* plain = std::get_if<data::PlainText>(&example)) return to_str(plain->text);
    if (const auto* said = std::get_if<data::Conversation>(&example)) {
        return py::make_tuple(to_tuple(said->messages), to_tuple(said->tools));
    }
    const auto& pair = std::get<data::PreferencePair>(example);
    return py::make_tuple(to_tuple(pair.prompt), to_tuple(pair.chosen), to_tuple(pair.rejected),
                          to_tuple(pair.tools));
}

py::object to_problem(const std::string& problem) {
    return problem.empty() ? py::object(py::none()) : to_str(problem);
}

// Everything that a reader has to give now. What comes before an error is given first: the reader
// repeats the error.
template <class Reader, class Item, class Convert>
py::list take_all(Reader& reader, Item& item, const Convert& convert) {
    py::list found;
    try {
        while (reader.next(item)) found.append(convert(item));
    } catch (const FormatError&) {
        if (found.empty()) throw;
    }
    return found;
}

py::list take_records(data::JsonRecordReader& reader) {
    data::JsonRecord record;
    return take_all(reader, record, [](const data::JsonRecord& found) {
        const bool is_good = found.document != nullptr;
        return py::make_tuple(found.line, is_good ? to_python(found.value()) : py::none(),
                              to_problem(found.problem));
    });
}

py::list take_examples(data::InstructionReader& reader) {
    data::LocatedExample located;
    return take_all(reader, located, [](const data::LocatedExample& found) {
        const bool is_good = found.problem.empty();
        return py::make_tuple(found.line, is_good ? to_python(found.example) : py::none(),
                              to_problem(found.problem));
    });
}

// `feed` and `finish` of a reader; `take` returns what it has to give.
template <class Reader, class Take>
void bind_feeding(py::class_<Reader>& bound, const Take& take, const char* what) {
    bound.def(
        "feed",
        [take](Reader& reader, const py::bytes& data) {
            reader.feed(std::string_view(data));
            return take(reader);
        },
        py::arg("data"), what);
    bound.def(
        "finish",
        [take](Reader& reader) {
            reader.finish();
            return take(reader);
        },
        "What is left at the end of the file.");
}

}  // namespace

void bind_records(py::module_& module) {
    module.attr("LONGEST_RECORD") = data::kLongestRecord;
    py::class_<data::JsonRecordReader> records(module, "JsonRecordReader",
                                               "Records of JSON lines or an array, fed in pieces.");
    records.def(py::init([](const py::object& source, std::int64_t longest_record) {
                    return data::JsonRecordReader(to_path(source), longest_record);
                }),
                py::arg("source"), py::arg("longest_record") = data::kLongestRecord);
    bind_feeding(records, &take_records,
                 "Adds bytes; the records that are whole now, as (line, value, problem or None).");
    records.def_property_readonly("pending_bytes", &data::JsonRecordReader::pending_bytes);
    py::class_<data::InstructionReader> examples(
        module, "InstructionReader", "Examples of a JSON file of one format, fed in pieces.");
    examples.def(py::init([](const py::object& source, const std::string& format,
                             const std::string& text_field, std::int64_t longest_record) {
                     return data::InstructionReader(to_path(source), data::record_format(format),
                                                    text_field, longest_record);
                 }),
                 py::arg("source"), py::arg("format"), py::arg("text_field") = "text",
                 py::arg("longest_record") = data::kLongestRecord);
    bind_feeding(examples, &take_examples,
                 "Adds bytes; the examples that are whole now, as (line, example, problem or "
                 "None). An example is a text, (messages, tools) or (prompt, chosen, rejected, "
                 "tools), a message (role, content, fields).");
    examples.def_property_readonly(
        "ignored_fields",
        [](const data::InstructionReader& reader) {
            py::dict found;
            for (const auto& [name, count] : reader.ignored_fields()) found[to_str(name)] = count;
            return found;
        },
        "How many examples had a field of that name, which the format has no use for.");
}

}  // namespace tempra::python
