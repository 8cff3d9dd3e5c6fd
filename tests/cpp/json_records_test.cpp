#include "tempra/data/json_records.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"
#include "tempra/error.h"

namespace tempra::data {
namespace {

// Each record as "line:text" or "line!problem", in the order they come; then "=error", if any.
std::vector<std::string> read(std::string_view text, size_t piece = 1 << 20,
                              std::int64_t longest = kLongestRecord) {
    std::vector<std::string> found;
    JsonRecordReader reader("t", longest);
    JsonRecord record;
    const auto take = [&] {
        while (reader.next(record)) {
            const bool is_good = record.document != nullptr;
            found.push_back(std::to_string(record.line) + (is_good ? ":" : "!") +
                            (is_good ? std::string(record.value().text()) : record.problem));
        }
    };
    try {
        for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
            reader.feed(text.substr(0, piece));
            take();
        }
        reader.finish();
        take();
        EXPECT_FALSE(reader.next(record));
    } catch (const FormatError& error) {
        found.push_back(std::string("=") + error.what());
        EXPECT_EQ(error_of<FormatError>([&] { (void)reader.next(record); }), error.what());
    }
    return found;
}

using Found = std::vector<std::string>;

TEST(JsonRecords, AreLinesOrTheElementsOfAnArray) {
    const std::string lines = "\xEF\xBB\xBF{\"a\": 1}\r\n\n \t\n\"x\"\n[2]";
    const std::string array = " \n[ {\"a\":\n 1}, \"]\\\"\" ,[2],-3e1,null\n]\n ";
    for (size_t piece = 1; piece < 12; ++piece) {
        EXPECT_EQ(read(lines, piece), (Found{"1:{\"a\": 1}", "4:\"x\"", "5:[2]"})) << piece;
        EXPECT_EQ(read(array, piece),
                  (Found{"2:{\"a\":\n 1}", "3:\"]\\\"\"", "3:[2]", "3:-3e1", "3:null"}))
            << piece;
    }
    EXPECT_EQ(read(""), Found{});
    EXPECT_EQ(read("\xEF\xBB\xBF"), Found{});
    EXPECT_EQ(read("[]"), Found{});
}

TEST(JsonRecords, GoOnBehindABadLine) {
    for (size_t piece = 1; piece < 9; ++piece) {
        EXPECT_EQ(read("1\n{\"\u00e9\" 1}\n\"\xC3\"\n{\"a\":1,\"a\":2}\n2\n", piece),
                  (Found{"1:1", "2!is not JSON: ':' expected at column 6",
                         "3!byte 12 of the file is not valid UTF-8",
                         "4!cannot be read as JSON: key \"a\" appears twice at column 11", "5:2"}));
    }
}

TEST(JsonRecords, EndAtAMistakeInAnArray) {
    const std::string rest = "; what follows in the array cannot be read";
    for (size_t piece = 1; piece < 9; ++piece) {
        EXPECT_EQ(read("[1,\n{\"a\":1,\"a\":2},3 \n4]", piece),
                  (Found{"1:1", "2!cannot be read as JSON: key \"a\" appears twice", "2:3",
                         "=t, line 3: needs ',' or ']' after the element, found '4'" + rest}));
        EXPECT_EQ(read("[1,\n[2,\n}]", piece),
                  (Found{"1:1", "=t, line 3: is not JSON: a value expected" + rest}));
        EXPECT_EQ(read("[\n\"\xFF\"]", piece),
                  (Found{"=t, line 2: byte 3 of the file is not valid UTF-8" + rest}));
        EXPECT_EQ(read("[1 \xC3", piece),
                  (Found{"1:1",
                         "=t, line 1: needs ',' or ']' after the element, found byte 195" + rest}));
        EXPECT_EQ(read("[1", piece),
                  (Found{"1:1",
                         "=t, line 1: needs ',' or ']' after the element, found the end of the "
                         "file" +
                             rest}));
        EXPECT_EQ(read("[1]\nx", piece),
                  (Found{"1:1", "=t, line 2: there is more after the end of the array" + rest}));
    }
}

TEST(JsonRecords, AreRefusedWhereTheyAreTooLong) {
    const std::string longer(20, '7');
    for (size_t piece = 1; piece < 30; ++piece) {
        EXPECT_EQ(read("1\n" + longer.substr(1) + "\n" + longer + "\n2", piece, 19),
                  (Found{"1:1", "2:" + longer.substr(1), "=t, line 3: has more than 19 bytes"}));
        EXPECT_EQ(read("[1,\n" + longer + "]", piece, 19),
                  (Found{"1:1", "=t, line 2: has more than 19 bytes"}));
        EXPECT_EQ(read(std::string(20, ' ') + "\n1", piece, 19),
                  Found{"=t, line 1: has more than 19 bytes"});
    }
    EXPECT_THROW(JsonRecordReader("t", 0), ConfigError);
}

TEST(JsonRecords, DeepNestingEndsBeforeItIsAllHeld) {
    JsonRecordReader reader("t");
    JsonRecord record;
    reader.feed("[" + std::string(300, '['));
    EXPECT_EQ(error_of<FormatError>([&] { (void)reader.next(record); }),
              "t, line 1: cannot be read as JSON: nested deeper than 256 levels; what follows in "
              "the array cannot be read");
}

TEST(JsonRecords, OnlyWhatIsNotWholeIsHeld) {
    JsonRecordReader reader("t");
    JsonRecord record;
    std::int64_t count = 0, most = 0;
    for (int i = 0; i < 1000; ++i) {
        reader.feed("{\"number\": 1234}\n{\"number\":");
        while (reader.next(record)) ++count;
        most = std::max(most, reader.pending_bytes());
        reader.feed(" 5}\n");
    }
    reader.finish();
    while (reader.next(record)) ++count;
    EXPECT_EQ(count, 2000);
    EXPECT_LE(most, 20);
}

}  // namespace
}  // namespace tempra::data
