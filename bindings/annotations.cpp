#include "annotations.h"

#include <algorithm>
#include <utility>

#include "tempra/error.h"

namespace tempra::python {

namespace {

constexpr std::string_view kModule = "tempra._core.";
constexpr std::string_view kSequence = "collections.abc.Sequence[";
constexpr std::string_view kMapping = "collections.abc.Mapping[";

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

// Parts between separators that stand in no brackets and no quotes.
std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
    std::vector<std::string_view> parts;
    int depth = 0;
    bool quoted = false;
    size_t begin = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\'') quoted = !quoted;
        if (quoted) continue;
        if (c == '(' || c == '[' || c == '{' || c == '<') ++depth;
        if (c == ')' || c == ']' || c == '}' || (c == '>' && depth > 0)) --depth;
        if (depth == 0 && text.substr(i).starts_with(separator)) {
            parts.push_back(trimmed(text.substr(begin, i - begin)));
            i += separator.size() - 1;
            begin = i + 1;
        }
    }
    parts.push_back(trimmed(text.substr(begin)));
    return parts;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
        text.replace(at, from.size(), to);
        at += to.size();
    }
}

// "(self: tempra._core.Tensor, dim: int = -1) -> ..." or "tempra._core.Generator(seed: int)".
Signature signature_of(std::string_view text) {
    Signature signature;
    const size_t open = text.find('(');
    if (open == std::string_view::npos) return signature;
    std::string_view name = text.substr(0, open);
    signature.name = std::string(name.substr(name.rfind('.') + 1));
    // Up to the bracket that closes the first one.
    int depth = 0;
    size_t close = open;
    for (; close < text.size(); ++close) {
        if (text[close] == '(') ++depth;
        if (text[close] == ')' && --depth == 0) break;
    }
    bool keyword_only = false;
    for (const std::string_view part : split(text.substr(open + 1, close - open - 1), ",")) {
        if (part.empty() || part == "/") continue;
        if (part.starts_with("**")) {
            signature.takes_any_named = true;
        } else if (part.starts_with('*')) {
            keyword_only = true;
            signature.takes_any_positional = part.size() > 1;
        } else {
            const size_t colon = std::min(part.find(':'), part.size());
            const std::vector<std::string_view> typed =
                split(part.substr(std::min(colon + 1, part.size())), " = ");
            signature.parameters.push_back({std::string(trimmed(part.substr(0, colon))),
                                            std::string(typed.front()), typed.size() > 1,
                                            keyword_only});
        }
    }
    return signature;
}

bool is_text(const py::handle& value) {
    return PyUnicode_Check(value.ptr()) || PyBytes_Check(value.ptr());
}

bool is_module_class(std::string_view annotation, const py::handle& value) {
    const py::object type = py::module_::import("tempra._core")
                                .attr(std::string(annotation.substr(kModule.size())).c_str());
    return py::isinstance(value, type) || (annotation.ends_with(".DType") && is_text(value));
}

std::string_view element_of(std::string_view sequence) {
    sequence.remove_prefix(kSequence.size());
    sequence.remove_suffix(1);
    return sequence;
}

bool fits_one(std::string_view annotation, const py::handle& value) {
    PyObject* const object = value.ptr();
    // Arrays are numbers to Python, and to pybind11 only with one element.
    const bool number =
        PyNumber_Check(object) != 0 && !PyComplex_Check(object) && PySequence_Check(object) == 0;
    if (annotation == "None") return value.is_none();
    if (annotation == "int") return (number && !PyFloat_Check(object)) || PyIndex_Check(object);
    if (annotation == "float") return number;
    if (annotation == "str") return is_text(value);
    if (annotation == "bytes") return PyBytes_Check(object) != 0;
    if (annotation == "dict") return PyDict_Check(object) != 0;
    if (annotation == "bool") return value.is_none() || number;
    if (annotation == "collections.abc.Callable") return PyCallable_Check(object) != 0;
    if (annotation.starts_with("tuple")) return PySequence_Check(object) != 0 && !is_text(value);
    if (annotation.starts_with(kMapping)) return PyMapping_Check(object) != 0 && !is_text(value);
    if (annotation.starts_with(kModule)) return is_module_class(annotation, value);
    if (annotation.starts_with(kSequence)) {
        if (!PyList_Check(object) && !PyTuple_Check(object)) {
            return PySequence_Check(object) != 0 && !is_text(value);
        }
        const auto elements = py::reinterpret_borrow<py::sequence>(value);
        return std::all_of(elements.begin(), elements.end(), [&](const py::handle& element) {
            return fits(element_of(annotation), element);
        });
    }
    return true;
}

std::string words_of_one(std::string_view annotation) {
    if (annotation == "int") return "an integer";
    if (annotation == "float") return "a number";
    if (annotation == "str") return "a string";
    if (annotation == "bool") return "True or False";
    if (annotation == "dict" || annotation.starts_with(kMapping)) return "a dict";
    if (annotation == "object") return "a value";
    if (annotation == "collections.abc.Callable") return "a function";
    if (annotation == "numpy.ndarray") return "a NumPy array";
    if (annotation.starts_with("typing.Annotated[numpy")) return "an array of numbers";
    if (annotation.starts_with("tuple")) return "a tuple";
    if (annotation.ends_with(".DType")) return "a dtype such as float32";
    if (annotation.starts_with(kModule)) {
        const std::string name(annotation.substr(kModule.size()));
        return (std::string_view("AEIOU").find(name[0]) == std::string_view::npos ? "a " : "an ") +
               name;
    }
    if (annotation.starts_with(kSequence)) {
        const std::string element = words_of(element_of(annotation));
        const size_t space = element.find(' ');
        const bool plural = element.starts_with("a ") || element.starts_with("an ");
        return "a sequence of " + (plural ? element.substr(space + 1) + "s" : element);
    }
    return std::string(annotation);
}

}  // namespace

std::vector<Signature> signatures_in(const std::string& error) {
    std::string text = error.substr(0, error.find("\n\nInvoked with: "));
    replace_all(text, "typing.SupportsInt | typing.SupportsIndex", "int");
    replace_all(text, "typing.SupportsFloat | typing.SupportsIndex", "float");
    std::vector<Signature> signatures;
    for (int number = 1;; ++number) {
        const std::string mark = format("\n    {}. ", number);
        const size_t begin = text.find(mark);
        if (begin == std::string::npos) return signatures;
        const size_t line = begin + mark.size();
        signatures.push_back(
            signature_of(std::string_view(text).substr(line, text.find('\n', line) - line)));
    }
}

bool fits(std::string_view annotation, const py::handle& value) {
    const std::vector<std::string_view> kinds = split(annotation, " | ");
    return std::any_of(kinds.begin(), kinds.end(),
                       [&](std::string_view kind) { return fits_one(kind, value); });
}

py::object misfit(std::string_view annotation, const py::handle& value) {
    if (PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) {
        for (const std::string_view kind : split(annotation, " | ")) {
            if (!kind.starts_with(kSequence)) continue;
            for (const py::handle& element : py::reinterpret_borrow<py::sequence>(value)) {
                if (!fits(element_of(kind), element)) return misfit(element_of(kind), element);
            }
        }
    }
    return py::reinterpret_borrow<py::object>(value);
}

std::string words_of(std::string_view annotation) {
    const std::vector<std::string_view> kinds = split(annotation, " | ");
    std::string words;
    for (size_t i = 0; i < kinds.size(); ++i) {
        if (i > 0) words += i + 1 == kinds.size() ? " or " : ", ";
        words += words_of_one(kinds[i]);
    }
    return words;
}

}  // namespace tempra::python
