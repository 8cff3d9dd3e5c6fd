#include <gtest/gtest.h>

#include <cerrno>
#include <stdexcept>

#include "platform/files.h"
#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

constexpr std::uint64_t kMost64 = ~std::uint64_t{0};

class WdbxWriterTest : public ::testing::Test {
  protected:
    void TearDown() override { platform::set_write_fault({}); }
    TemporaryDirectory folder_;
    std::string path_ = folder_ / "a.wdbx";
};

const std::string& whole() {
    static const std::string file = golden("three-blocks.wdbx");
    return file;
}

void append(WdbxWriter& writer, std::uint64_t id, const std::vector<float>& vector,
            const std::string& metadata) {
    writer.append(id, vector, bytes_of(metadata));
}

TEST_F(WdbxWriterTest, RecreatesTheOriginalProgramsFile) {
    WdbxWriter writer(path_);
    append(writer, 1, {1, 0, 0, 0}, token_block({1, 2, 3, 4}, "hello"));
    append(writer, 2, {2, 0, 0, 0}, token_block({50256, 0, 4294967295, 7, 65536}));
    append(writer, 3, {3, 0, 0, 0}, token_block({100, 200, 300}, "na\xC3\xAFve \xE2\x98\x83"));
    EXPECT_EQ(writer.record_count(), 3U);
    const io::WrittenFile written = writer.commit();
    EXPECT_EQ(read_text(path_), whole());
    EXPECT_EQ(written.bytes, std::ssize(whole()));
    EXPECT_EQ(written.crc32, crc32_of(whole(), 0, whole().size()));
}

TEST_F(WdbxWriterTest, RecreatesTheOriginalProgramsEmptyFile) {
    WdbxWriter(path_).commit();
    EXPECT_EQ(read_text(path_), golden("empty.wdbx"));
}

TEST_F(WdbxWriterTest, CopiesAFileByteForByte) {
    const WdbxFile source(golden_path("three-blocks.wdbx"));
    WdbxWriter writer(path_, contents_of(source));
    writer.append_all(source);
    writer.commit();
    EXPECT_EQ(read_text(path_), whole());
    const WdbxFile nothing(golden_path("empty.wdbx"));
    WdbxWriter empty(path_, contents_of(nothing));
    empty.append_all(nothing);
    empty.commit();
    EXPECT_EQ(read_text(path_), golden("empty.wdbx"));
}

TEST_F(WdbxWriterTest, KeepsWhatElseAFileHolds) {
    const std::string index = numbers({0, 0, 1, 0});
    std::string file = make_v3({{1, name_block("mine") + "after"},
                                {2, record(9, {1, 2}, "m")},
                                {4, index},
                                {5, "line"},
                                {77, "?"}},
                               1, 2);
    set(file, 32, std::int64_t{111});
    set(file, 40, std::int64_t{222});
    set(file, 6, std::uint16_t{0xA500 | 64 | 32 | 7});
    file[60] = 1;
    file[61] = 3;
    set(file, 64, std::uint64_t{0x1122334455667788});
    write_text(path_, repaired_v3(file));
    const std::string copy = folder_ / "copy.wdbx";
    {
        const WdbxFile source(path_);
        WdbxWriter writer(copy, contents_of(source));
        writer.append_all(source);
        append(writer, 10, {3, 4}, "n");
        writer.commit();
    }
    const WdbxFile found(copy);
    const WdbxLayout& layout = found.layout();
    EXPECT_EQ(layout.name, "mine");
    EXPECT_EQ(layout.header.created_at, 111);
    EXPECT_EQ(layout.header.modified_at, 222);
    EXPECT_EQ(layout.header.distance_metric, 1);
    EXPECT_EQ(layout.header.uuid[0], std::byte{0x88});
    EXPECT_EQ(layout.header.compression, 3);
    // Of what sections there are the file itself is asked.
    EXPECT_EQ(layout.header.flags, 0xA500 | 64 | 16 | 8 | 7);
    std::vector<std::uint16_t> types;
    for (const WdbxSection& section : layout.sections) types.push_back(section.type);
    EXPECT_EQ(types, (std::vector<std::uint16_t>{1, 2, 3, 4, 5, 77}));
    const auto text = [&](std::uint16_t type) {
        const auto bytes = found.bytes(*layout.find(type));
        return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    EXPECT_EQ(text(1), name_block("mine") + "after");
    EXPECT_EQ(text(2), record(9, {1, 2}, "m") + record(10, {3, 4}, "n"));
    EXPECT_EQ(text(4), index);
    EXPECT_EQ(text(5), "line");
    EXPECT_EQ(text(77), "?");
}

TEST_F(WdbxWriterTest, ANaNsPayloadSurvives) {
    const std::uint32_t bits = 0x7FA12345;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    WdbxWriter writer(path_);
    append(writer, kMost64, {value}, "");
    append(writer, 0, {value}, "");
    writer.commit();
    const WdbxFile file(path_);
    WdbxRecordCursor cursor = file.records();
    WdbxRecord record;
    ASSERT_TRUE(cursor.next(record));
    EXPECT_EQ(record.id, kMost64);
    EXPECT_EQ(std::memcmp(record.vector.data(), &bits, 4), 0);
    ASSERT_TRUE(cursor.next(record));
    EXPECT_EQ(record.id, 0U);
}

// Version 2 says "compressed" with another bit, and what its other bits say is not repeated.
TEST_F(WdbxWriterTest, FlagsOfVersion2) {
    std::string file =
        make_v2(16 | 2, 1, 2, name_block("old") + vector_block(1, record(9, {1, 2}, "m")));
    file[37] = 3;
    write_text(path_, repaired_v2(file));
    const WdbxFile source(path_);
    const std::string copy = folder_ / "copy.wdbx";
    WdbxWriter writer(copy, contents_of(source));
    writer.append_all(source);
    writer.commit();
    const WdbxFile found(copy);
    EXPECT_EQ(found.layout().header.flags, 64 | 7);
    EXPECT_EQ(found.layout().header.compression, 3);
    EXPECT_EQ(found.layout().name, "old");
}

TEST_F(WdbxWriterTest, MarksThatNoReaderWouldAccept) {
    WdbxContents contents;
    contents.header.distance_metric = 4;
    EXPECT_EQ(error_of<FormatError>([&] { WdbxWriter(path_, contents); }),
              path_ + ": CorruptedData: distance metric 4 is unknown");
    contents.header.distance_metric = 0;
    contents.header.compression = 1;
    EXPECT_EQ(error_of<FormatError>([&] { WdbxWriter(path_, contents); }),
              path_ + ": UnsupportedCompression: compressed with lz4, which cannot be read");
    EXPECT_TRUE(folder_.names().empty());
}

// As when a person presses Ctrl-C: at any moment before the rename, the old file stays.
TEST_F(WdbxWriterTest, AnInterruptionKeepsTheOldFile) {
    WdbxWriter(path_).commit();
    const std::string old = read_text(path_);
    int last = 0;
    for (int moment = 1; last == 0; ++moment) {
        int calls = 0;
        try {
            WdbxWriter writer(path_);
            writer.set_check([&] {
                if (++calls == moment) throw std::runtime_error("interrupted");
            });
            append(writer, 1, {1}, std::string(5 << 20, 'm'));
            writer.commit();
            last = moment;
        } catch (const std::runtime_error&) {
            EXPECT_EQ(read_text(path_), old);
        }
        EXPECT_EQ(folder_.names(), std::vector<std::string>{"a.wdbx"});
    }
    EXPECT_GE(last, 3);
    EXPECT_EQ(WdbxFile(path_).layout().ids.count(), 1U);
}

TEST_F(WdbxWriterTest, LongNamesAreCut) {
    WdbxContents contents;
    contents.name = std::string(70'000, 'n');
    WdbxWriter(path_, contents).commit();
    EXPECT_EQ(WdbxFile(path_).layout().name, std::string(65'535, 'n'));
}

TEST_F(WdbxWriterTest, LargeRecordsInPieces) {
    const std::string metadata(5'000'000, 'x');
    {
        WdbxWriter writer(path_);
        append(writer, 1, {1}, metadata);
        writer.begin_record(2, std::vector<float>{2}, 5'000'000);
        writer.write_metadata(bytes_of(metadata).first(1'000'001));
        EXPECT_EQ(error_of<Error>([&] { writer.commit(); }),
                  path_ + ": commit: the record before lacks 3999999 bytes of its metadata");
        EXPECT_THROW(append(writer, 3, {3}, ""), Error);
        EXPECT_THROW(writer.write_metadata(bytes_of(metadata)), Error);
        writer.write_metadata(bytes_of(metadata).subspan(1'000'001));
        writer.commit();
        EXPECT_THROW(writer.commit(), Error);
        EXPECT_THROW(append(writer, 3, {3}, ""), Error);
        EXPECT_THROW(writer.set_check({}), Error);
    }
    WdbxWriter whole_records(folder_ / "b");
    append(whole_records, 1, {1}, metadata);
    append(whole_records, 2, {2}, metadata);
    whole_records.commit();
    EXPECT_EQ(read_text(path_), read_text(folder_ / "b"));
    EXPECT_EQ(error_of_file(read_text(path_)), "");
}

TEST_F(WdbxWriterTest, Limits) {
    WdbxWriter writer(path_);
    EXPECT_EQ(error_of<FormatError>(
                  [&] { writer.begin_record(1, std::vector<float>{1}, std::int64_t{1} << 32); }),
              path_ +
                  ": PayloadTooLarge: record 1: 1 floats and 4294967296 bytes of metadata given, "
                  "at most 4294967295 of each fit");
    // The address is never read: the length alone is refused.
    const float one = 1;
    EXPECT_THROW(writer.append(1, std::span(&one, size_t{1} << 32), {}), FormatError);
    append(writer, 1, {1}, "");
    EXPECT_EQ(error_of<FormatError>([&] {
                  append(writer, 2, {1, 2}, "");
              }),
              path_ +
                  ": CorruptedData: InvalidDimension: a vector of 2 floats given, those before "
                  "have 1");
    WdbxContents contents;
    contents.extra_sections.resize(65'533);
    EXPECT_EQ(error_of<FormatError>([&] { WdbxWriter(folder_ / "b", contents); }),
              folder_ / "b" +
                  ": PayloadTooLarge: 65533 sections beside the usual three, at most 65532 fit");
    contents.extra_sections.resize(65'532, {9, 0, 0, {}});
    WdbxWriter(folder_ / "b", contents).commit();
    EXPECT_EQ(WdbxFile(folder_ / "b").layout().sections.size(), 65'534U);
}

TEST_F(WdbxWriterTest, DuplicateIdsAreRefusedAndNothingIsWritten) {
    {
        WdbxWriter writer(path_);
        append(writer, 5, {1}, "");
        append(writer, 6, {1}, "");
        append(writer, 5, {1}, "");
        EXPECT_EQ(error_of<FormatError>([&] { writer.commit(); }),
                  path_ + ": CorruptedData: DuplicateId: id 5 is there twice");
    }
    EXPECT_TRUE(folder_.names().empty());
}

TEST_F(WdbxWriterTest, FailingWritesKeepTheOldFile) {
    const auto write = [&] {
        WdbxWriter writer(path_);
        append(writer, 1, {1}, std::string(3 << 20, 'm'));
        append(writer, 2, {1}, "n");
        writer.commit();
    };
    WdbxWriter(path_).commit();
    const std::string old = read_text(path_);
    int failures = 0;
    for (int operation = 1;; ++operation) {
        write_text(path_, old);
        platform::set_write_fault({operation, ENOSPC, true});
        bool failed = false;
        try {
            write();
        } catch (const IoError&) {
            failed = true;
        }
        const auto count = platform::write_operation_count();
        platform::set_write_fault({});
        EXPECT_EQ(folder_.names(), std::vector<std::string>{"a.wdbx"});
        if (!failed) break;
        ++failures;
        // The folder is synced last, after the rename.
        if (read_text(path_) != old) {
            EXPECT_EQ(error_of_file(read_text(path_)), "");
            EXPECT_EQ(count, operation);
        }
    }
    EXPECT_GE(failures, 8);
    EXPECT_EQ(WdbxFile(path_).layout().ids.count(), 2U);
}

}  // namespace
}  // namespace tempra::data
