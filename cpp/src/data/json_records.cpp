#include "tempra/data/json_records.h"

#include <algorithm>
#include <utility>

#include "io/json_reader.h"
#include "io/json_text.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::int64_t count_lines(std::string_view text) {
    return std::count(text.begin(), text.end(), '\n');
}

std::string describe(const io::JsonError& error) {
    const bool is_json = error.kind() != io::JsonError::Kind::syntax;
    return (is_json ? "cannot be read as JSON: " : "is not JSON: ") + error.message();
}

// A byte of the file in a message.
std::string shown(char c) {
    if (c > ' ' && c < 0x7F) return format("'{}'", c);
    return format("byte {}", static_cast<int>(static_cast<unsigned char>(c)));
}

}  // namespace

JsonRecordReader::JsonRecordReader(std::string source, std::int64_t longest_record)
    : source_(std::move(source)), longest_record_(static_cast<size_t>(longest_record)) {
    // Places in a record have 32 bits.
    TEMPRA_CHECK(ConfigError, longest_record >= 1 && longest_record <= std::int64_t{1} << 30,
                 "{}: longest_record is {}, 1 to 2^30 are possible", source_, longest_record);
}

void JsonRecordReader::fail(std::int64_t line, const std::string& problem) {
    failure_ = source_ + ", line " + std::to_string(line) + ": " + problem;
    throw FormatError(failure_);
}

void JsonRecordReader::fail_array(std::int64_t line, const std::string& problem) {
    fail(line, problem + "; what follows in the array cannot be read");
}

void JsonRecordReader::feed(std::string_view bytes) {
    buffer_.erase(0, place_);
    offset_ += static_cast<std::int64_t>(place_);
    scanned_ -= std::min(scanned_, place_);
    place_ = 0;
    buffer_ += bytes;
}

bool JsonRecordReader::next(JsonRecord& record) {
    if (!failure_.empty()) throw FormatError(failure_);
    record.document = nullptr;
    record.problem.clear();
    if (state_ == State::beginning && !find_beginning()) return false;
    return state_ == State::lines ? next_line(record) : next_element(record);
}

void JsonRecordReader::check_length(size_t bytes) {
    if (bytes > longest_record_) fail(line_, format("has more than {} bytes", longest_record_));
}

// `bad` is counted from place_.
std::string JsonRecordReader::invalid_utf8(size_t bad) const {
    return "byte " + std::to_string(offset_ + static_cast<std::int64_t>(place_ + bad)) +
           " of the file is not valid UTF-8";
}

// --- lines ----------------------------------------------------------------------------------

// Finds out whether the file is an array; false while all there is is blank.
bool JsonRecordReader::find_beginning() {
    const std::string_view all = buffer_;
    if (offset_ == 0 && place_ == 0) {
        const std::string_view start = all.substr(0, kByteOrderMark.size());
        if (start == kByteOrderMark.substr(0, start.size()) && start != kByteOrderMark &&
            !finished_) {
            return false;  // perhaps the first bytes of the mark
        }
        if (start == kByteOrderMark) place_ = kByteOrderMark.size();
    }
    scanned_ = std::max(scanned_, place_);
    for (; scanned_ < all.size() && is_space(all[scanned_]); ++scanned_) {
        if (all[scanned_] != '\n') continue;
        check_length(scanned_ - place_);
        ++line_;
        place_ = scanned_ + 1;
    }
    check_length(scanned_ - place_);
    if (scanned_ == all.size() && !finished_) return false;
    const bool is_array = scanned_ < all.size() && all[scanned_] == '[';
    state_ = is_array ? State::first_element : State::lines;
    if (is_array) place_ = scanned_ + 1;
    scanned_ = place_;
    return true;
}

bool JsonRecordReader::next_line(JsonRecord& record) {
    const std::string_view all = buffer_;
    while (place_ < all.size()) {
        scanned_ = std::min(all.find('\n', scanned_), all.size());
        check_length(scanned_ - place_);
        const bool has_end = scanned_ < all.size();
        if (!has_end && !finished_) return false;
        const std::string_view line = all.substr(place_, scanned_ - place_);
        record.line = line_;
        const bool is_blank = std::all_of(line.begin(), line.end(), is_space);
        if (!is_blank) read_line(line, record);
        place_ = scanned_ = scanned_ + (has_end ? 1 : 0);
        ++line_;
        if (!is_blank) return true;
    }
    return false;
}

void JsonRecordReader::read_line(std::string_view line, JsonRecord& record) {
    if (const size_t bad = io::find_invalid_utf8(line); bad != std::string_view::npos) {
        record.problem = invalid_utf8(bad);
        return;
    }
    try {
        document_.read(line, source_);
        record.document = &document_;
    } catch (const io::JsonError& error) {
        const size_t column = io::count_characters(line.substr(0, error.position())) + 1;
        record.problem = describe(error) + " at column " + std::to_string(column);
    }
}

// --- the array ------------------------------------------------------------------------------

// Takes white space; whether something follows.
bool JsonRecordReader::skip_space() {
    while (place_ < buffer_.size() && is_space(buffer_[place_])) {
        if (buffer_[place_++] == '\n') ++line_;
    }
    scanned_ = place_;
    return place_ < buffer_.size();
}

bool JsonRecordReader::next_element(JsonRecord& record) {
    while (true) {
        switch (state_) {
            case State::first_element:
                if (!begin_element()) return false;
                break;
            case State::element:
                if (!find_element_end()) return false;
                read_element(record);
                return true;
            case State::behind_element:
                if (!step_behind_element()) return false;
                break;
            default:
                if (skip_space()) fail_array(line_, "there is more after the end of the array");
                return false;
        }
    }
}

// Behind the bracket that opens the array.
bool JsonRecordReader::begin_element() {
    if (!skip_space() && !finished_) return false;
    const bool is_empty = place_ < buffer_.size() && buffer_[place_] == ']';
    state_ = is_empty ? State::behind_array : State::element;
    if (is_empty) scanned_ = ++place_;
    return true;
}

bool JsonRecordReader::step_behind_element() {
    if (!skip_space() && !finished_) return false;
    const char separator = place_ < buffer_.size() ? buffer_[place_] : '\0';
    if (separator != ',' && separator != ']') {
        const std::string found =
            place_ < buffer_.size() ? shown(separator) : std::string("the end of the file");
        fail_array(line_, "needs ',' or ']' after the element, found " + found);
    }
    scanned_ = ++place_;
    state_ = separator == ',' ? State::element : State::behind_array;
    return true;
}

// One byte of an element; sets whole_ at its last byte.
void JsonRecordReader::scan_byte(char c) {
    if (in_string_) {
        if (escaped_) {
            escaped_ = false;
        } else if (c == '\\') {
            escaped_ = true;
        } else if (c == '"') {
            in_string_ = false;
            whole_ = depth_ == 0;
        }
    } else if (c == '"') {
        in_string_ = true;
    } else if (c == '{' || c == '[') {
        ++depth_;
    } else if (c == '}' || c == ']') {
        // Which of the two closes what is for the parser to say.
        --depth_;
        whole_ = depth_ <= 0;
    } else {
        in_word_ = depth_ == 0;
    }
}

// Moves scanned_ behind the element; false while more of it is to come.
bool JsonRecordReader::find_element_end() {
    if (scanned_ == place_) {  // at its first byte, or still in front of it
        depth_ = 0;
        in_string_ = escaped_ = in_word_ = whole_ = false;
        if (!skip_space()) return finished_;
    }
    while (scanned_ < buffer_.size() && !whole_) {
        const char c = buffer_[scanned_];
        // A number or a word ends in front of what is no part of it.
        if (in_word_ && (is_space(c) || c == ',' || c == ']' || c == '}')) break;
        scan_byte(c);
        ++scanned_;
        check_length(scanned_ - place_);
        if (depth_ > io::kMaxJsonDepth) return true;  // the parser will refuse it
    }
    return finished_ || whole_ || scanned_ < buffer_.size();
}

void JsonRecordReader::read_element(JsonRecord& record) {
    const std::string_view text = std::string_view(buffer_).substr(place_, scanned_ - place_);
    record.line = line_;
    if (const size_t bad = io::find_invalid_utf8(text); bad != std::string_view::npos) {
        fail_array(line_ + count_lines(text.substr(0, bad)), invalid_utf8(bad));
    }
    try {
        document_.read(text, source_);
        record.document = &document_;
    } catch (const io::JsonError& error) {
        const std::int64_t line = line_ + count_lines(text.substr(0, error.position()));
        if (error.kind() != io::JsonError::Kind::content) fail_array(line, describe(error));
        record.problem = describe(error);
    }
    line_ += count_lines(text);
    place_ = scanned_;
    state_ = State::behind_element;
}

}  // namespace tempra::data
