// Records of JSON lines or of one JSON array, from bytes that arrive in pieces. What is held is the
// piece and the record that is not whole yet.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tempra/io/json_value.h"

namespace tempra::data {

constexpr std::int64_t kLongestRecord = std::int64_t{1} << 28;  // bytes

// A record, or why a line holds none. What it refers to is the reader's, up to its next call.
struct JsonRecord {
    std::int64_t line = 0;  // that it begins on, from 1
    const io::JsonDocument* document = nullptr;
    std::string problem;  // empty where there is a document

    [[nodiscard]] io::JsonValue value() const { return document->root(); }
};

// Usage: `feed` a piece, then `next` until it returns false; after the last piece `finish`, and
// `next` once more in the same way. The records do not depend on where the pieces are cut.
//
// Where the first visible byte is '[' the records are the elements of an array, otherwise each line
// is one. The text is UTF-8, a byte order mark may come first. Blank lines are passed over. A bad
// line is a record with a problem, and reading goes on behind it; so is an element that is JSON but
// not accepted (`io::JsonDocument::read`). Behind a mistake in the syntax of an array nothing can
// be told apart any more: that raises FormatError, as does a record of more than `longest_record`
// bytes, from this and every later call of `next`.
class JsonRecordReader {
  public:
    // `source` opens error messages.
    explicit JsonRecordReader(std::string source, std::int64_t longest_record = kLongestRecord);

    void feed(std::string_view bytes);
    void finish() { finished_ = true; }
    // False when there is no further record in what has been fed.
    [[nodiscard]] bool next(JsonRecord& record);

    // Bytes that have been fed and not been read yet.
    [[nodiscard]] std::int64_t pending_bytes() const {
        return static_cast<std::int64_t>(buffer_.size() - place_);
    }

  private:
    enum class State { beginning, lines, first_element, element, behind_element, behind_array };

    [[nodiscard]] bool find_beginning();
    [[nodiscard]] bool next_line(JsonRecord& record);
    [[nodiscard]] bool next_element(JsonRecord& record);
    [[nodiscard]] bool skip_space();
    [[nodiscard]] bool find_element_end();
    [[nodiscard]] bool begin_element();
    [[nodiscard]] bool step_behind_element();
    void read_line(std::string_view line, JsonRecord& record);
    void read_element(JsonRecord& record);
    void scan_byte(char c);
    void check_length(size_t bytes);
    [[nodiscard]] std::string invalid_utf8(size_t bad) const;
    [[noreturn]] void fail(std::int64_t line, const std::string& problem);
    [[noreturn]] void fail_array(std::int64_t line, const std::string& problem);

    std::string source_;
    size_t longest_record_;
    std::string buffer_;
    std::int64_t offset_ = 0;  // of the buffer within the file
    size_t place_ = 0;         // of what is read next, in the buffer
    size_t scanned_ = 0;       // how far its end has been looked for
    std::int64_t line_ = 1;    // at place_
    State state_ = State::beginning;
    bool finished_ = false;
    std::string failure_;
    io::JsonDocument document_;

    // The element that is being looked for the end of.
    int depth_ = 0;
    bool in_string_ = false, escaped_ = false, in_word_ = false, whole_ = false;
};

}  // namespace tempra::data
