// Error types of the library and the check that raises them.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tempra {

// Base of everything the library throws; `what()` names the operation, what was given and what
// was needed.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct ShapeError : Error {
    using Error::Error;
};
struct DtypeError : Error {
    using Error::Error;
};
struct DeviceError : Error {
    using Error::Error;
};
struct FormatError : Error {
    using Error::Error;
};
struct ConfigError : Error {
    using Error::Error;
};
struct CheckpointError : Error {
    using Error::Error;
};
struct TrainingDisabled : Error {
    using Error::Error;
};
// A failed operating-system call: opening, reading, writing, mapping.
struct IoError : Error {
    using Error::Error;
    IoError(const std::string& message, int error_number)
        : Error(message), error_number_(error_number) {}
    [[nodiscard]] int error_number() const noexcept { return error_number_; }

  private:
    int error_number_ = 0;
};

namespace detail {

inline void format_rest(std::ostringstream& out, std::string_view pattern) { out << pattern; }

template <class First, class... Rest>
void format_rest(std::ostringstream& out, std::string_view pattern, const First& first,
                 const Rest&... rest) {
    const size_t hole = pattern.find("{}");
    out << pattern.substr(0, hole);
    if (hole == std::string_view::npos) return;
    out << first;
    format_rest(out, pattern.substr(hole + 2), rest...);
}

}  // namespace detail

// Replaces each "{}" of `pattern` with the next argument, streamed.
template <class... Arguments>
[[nodiscard]] std::string format(std::string_view pattern, const Arguments&... arguments) {
    std::ostringstream out;
    out << std::boolalpha;
    detail::format_rest(out, pattern, arguments...);
    return out.str();
}

}  // namespace tempra

// Throws `ErrorType(format(...))` when `condition` is false.
#define TEMPRA_CHECK(ErrorType, condition, ...)             \
    do {                                                    \
        if (!(condition)) [[unlikely]] {                    \
            throw ErrorType(::tempra::format(__VA_ARGS__)); \
        }                                                   \
    } while (false)
