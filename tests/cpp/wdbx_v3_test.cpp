// Reading WDBX version 3: the original program's files, and every damage that the format's
// description lists, made to an otherwise right file.
#include <gtest/gtest.h>

#include <chrono>

#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

constexpr std::uint64_t kMost64 = ~std::uint64_t{0};

// Offsets in the golden file of three blocks.
constexpr size_t kDirectory = 80, kVectorsEntry = 112, kVectors = 191, kFooter = 407;

const std::string& whole() {
    static const std::string file = golden("three-blocks.wdbx");
    return file;
}

std::string metadata_section() { return name_block("token_dataset"); }

std::string small_file(const std::string& records, std::uint64_t count, std::uint32_t dimension) {
    return make_v3({{1, metadata_section()}, {2, records}}, count, dimension);
}

TEST(WdbxV3, TheOriginalProgramsFile) {
    const WdbxFile file(golden_path("three-blocks.wdbx"));
    const WdbxLayout& layout = file.layout();
    EXPECT_EQ(layout.name, "token_dataset");
    EXPECT_EQ(layout.header.version, 3);
    EXPECT_EQ(layout.header.flags, 7);
    EXPECT_EQ(layout.header.dimension, 4U);
    EXPECT_EQ(layout.sections.size(), 3U);
    EXPECT_EQ(layout.ids.count(), 3U);
    EXPECT_EQ(layout.ids.runs().size(), 1U);
    WdbxRecordCursor cursor = file.records();
    WdbxRecord record;
    const std::vector<std::vector<std::uint32_t>> tokens = {
        {1, 2, 3, 4}, {50256, 0, 4294967295, 7, 65536}, {100, 200, 300}};
    const std::vector<std::string> texts = {"hello", "", "na\xC3\xAFve \xE2\x98\x83"};
    for (size_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(cursor.next(record));
        EXPECT_EQ(record.id, i + 1);
        std::vector<float> vector(4);
        ASSERT_EQ(record.vector.size(), 16U);
        std::memcpy(vector.data(), record.vector.data(), 16);
        EXPECT_EQ(vector, (std::vector<float>{static_cast<float>(i + 1), 0, 0, 0}));
        const TokenBlock block = parse_token_block(record.metadata, "f");
        std::vector<std::uint32_t> found(static_cast<size_t>(block.token_count));
        block.read(0, found);
        EXPECT_EQ(found, tokens[i]);
        EXPECT_EQ(block.text, texts[i]);
    }
    EXPECT_FALSE(cursor.next(record));
}

TEST(WdbxV3, TheOriginalProgramsEmptyFile) {
    const WdbxFile file(golden_path("empty.wdbx"));
    EXPECT_EQ(file.layout().name, "token_dataset");
    EXPECT_EQ(file.layout().ids.count(), 0U);
    EXPECT_EQ(file.layout().find(wdbx_section::kBloomFilter), nullptr);
    EXPECT_FALSE(file.layout().ids.largest().has_value());
}

// But for the last eight bytes, which are reserved, no bit can change unnoticed.
TEST(WdbxV3, EverySingleFlippedBitIsNoticed) {
    for (const std::string name : {"three-blocks.wdbx", "empty.wdbx"}) {
        const std::string file = golden(name);
        for (size_t byte = 0; byte < file.size() - 8; ++byte) {
            for (int bit = 0; bit < 8; ++bit) {
                std::string damaged = file;
                damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
                EXPECT_NE(error_of_file(damaged), "") << name << " " << byte << " " << bit;
            }
        }
    }
}

TEST(WdbxV3, EveryShorterOrLongerFileIsNoticed) {
    for (size_t size = 0; size < whole().size(); ++size) {
        EXPECT_NE(error_of_file(whole().substr(0, size)), "") << size;
    }
    for (size_t more = 1; more < 100; ++more) {
        EXPECT_NE(error_of_file(whole() + std::string(more, '\0')), "") << more;
    }
}

TEST(WdbxV3, ShorterThanMagicAndVersion) {
    EXPECT_EQ(error_of_file(""), "f: TruncatedData: 0 bytes, too few for a WDBX file");
    EXPECT_EQ(error_of_file("WDBX\x03"), "f: TruncatedData: 5 bytes, too few for a WDBX file");
}

TEST(WdbxV3, Row1TooShort) {
    EXPECT_EQ(error_of_file(whole().substr(0, 6)),
              "f: TruncatedData: 6 bytes, at least 120 needed");
    EXPECT_EQ(error_of_file(whole().substr(0, 119)),
              "f: TruncatedData: 119 bytes, at least 120 needed");
}

TEST(WdbxV3, Row2Magic) {
    std::string file = whole();
    file[0] = 'w';
    EXPECT_EQ(error_of_file(repaired_v3(file)), "f: InvalidMagic: does not begin with WDBX");
}

TEST(WdbxV3, Row3Version) {
    for (const int version : {0, 1, 4, 259, 65535}) {
        std::string file = whole();
        set(file, 4, static_cast<std::uint16_t>(version));
        EXPECT_EQ(error_of_file(repaired_v3(file)),
                  format("f: UnsupportedVersion: WDBX version {}, 2 and 3 are known", version));
    }
}

TEST(WdbxV3, Row4FooterMarker) {
    const std::string expected =
        "f: InvalidFooter: does not end with a footer: cut short, or bytes were added";
    std::string file = whole();
    file[kFooter + 3] = '2';
    EXPECT_EQ(error_of_file(file), expected);
    EXPECT_EQ(error_of_file(whole() + "x"), expected);
    EXPECT_EQ(error_of_file(whole().substr(0, whole().size() - 1)), expected);
}

TEST(WdbxV3, Row5SizeInTheFooter) {
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{406}, kMost64}) {
        std::string file = whole();
        set(file, kFooter + 20, size);
        EXPECT_EQ(error_of_file(file),
                  format("f: CorruptedData: the footer says {} bytes lie before it, there are 407",
                         size));
    }
}

TEST(WdbxV3, Row6SectionCountInTheFooter) {
    for (const std::uint32_t count : {2U, 65539U}) {
        std::string file = whole();
        set(file, kFooter + 28, count);
        EXPECT_EQ(error_of_file(file),
                  format("f: CorruptedData: the footer says {} sections, the header 3", count));
    }
}

TEST(WdbxV3, Row7SizeOfTheDirectory) {
    for (const std::uint64_t size : {std::uint64_t{95}, std::uint64_t{128}, kMost64}) {
        std::string file = whole();
        set(file, 24, size);
        set(file, kFooter + 4, crc32_of(file, 0, 80));
        EXPECT_EQ(
            error_of_file(file),
            format("f: CorruptedData: the directory of 3 sections has {} bytes, 96 needed", size));
    }
}

TEST(WdbxV3, Row8PlaceOfTheDirectory) {
    // The last two would wrap to a place inside.
    for (const std::uint64_t offset :
         {std::uint64_t{79}, std::uint64_t{312}, kMost64, kMost64 - 95, kMost64 - 94}) {
        std::string file = whole();
        set(file, 16, offset);
        set(file, kFooter + 4, crc32_of(file, 0, 80));
        EXPECT_EQ(error_of_file(file),
                  format("f: CorruptedData: the directory of 96 bytes at {} is not between 80 and "
                         "407",
                         offset));
    }
}

TEST(WdbxV3, Row9Checksums) {
    const auto expect = [](size_t damaged_at, std::initializer_list<size_t> repaired,
                           const std::string& part) {
        std::string file = whole();
        file[damaged_at] = static_cast<char>(file[damaged_at] ^ 1);
        for (const size_t place : repaired) {
            if (place == 4) set(file, kFooter + 4, crc32_of(file, 0, 80));
            if (place == 8) set(file, kFooter + 8, crc32_of(file, 80, 96));
            if (place == 12) set(file, kFooter + 12, crc32_of(file, 176, 231));
            if (place == 16) set(file, kFooter + 16, crc32_of(file, 0, 407));
        }
        const std::string expected = "f: InvalidChecksum: checksum of the " + part + " is ";
        EXPECT_EQ(error_of_file(file).substr(0, expected.size()), expected);
    };
    expect(70, {}, "header");
    expect(100, {4}, "directory");
    expect(300, {4, 8}, "data");
    expect(300, {4, 8, 12}, "file");
    expect(kFooter + 4, {}, "header");
    expect(kFooter + 8, {}, "directory");
    expect(kFooter + 12, {}, "data");
    expect(kFooter + 16, {}, "file");
}

TEST(WdbxV3, Row10PlaceOfASection) {
    const auto expect = [](std::uint64_t offset, std::uint64_t length) {
        std::string file = whole();
        set(file, kVectorsEntry + 4, offset);
        set(file, kVectorsEntry + 12, length);
        EXPECT_EQ(error_of_file(repaired_v3(file)),
                  format("f: CorruptedData: section 1: {} bytes at {} are not within the 407 "
                         "there are",
                         length, offset));
    };
    expect(408, 0);
    expect(191, 217);
    expect(kMost64, 1);
    expect(191, kMost64 - 190);  // the sum wraps to 0
    expect(191, kMost64);
    expect(kMost64 - 5, 207);
}

TEST(WdbxV3, Row11ChecksumOfASection) {
    std::string file = repaired_v3(whole());
    set(file, kVectorsEntry + 20, std::uint32_t{1});
    set(file, kFooter + 8, crc32_of(file, 80, 96));
    set(file, kFooter + 16, crc32_of(file, 0, 407));
    EXPECT_EQ(error_of_file(file), format("f: InvalidChecksum: checksum of the section 1 is {}, "
                                          "the file says 1: it is damaged",
                                          0x7FF26AFBU));
}

TEST(WdbxV3, Row12UnknownSectionsAreIgnored) {
    for (const int type : {0, 3, 4, 5, 6, 7, 65535}) {
        const std::string file = make_v3({{static_cast<std::uint16_t>(type), "whatever"},
                                          {2, record(1, {1}, "")},
                                          {1, metadata_section()},
                                          {static_cast<std::uint16_t>(type), ""}},
                                         1, 1);
        EXPECT_EQ(error_of_file(file), "") << type;
    }
}

TEST(WdbxV3, Row13MetricAndCompression) {
    for (const int value : {4, 255}) {
        std::string file = whole();
        file[60] = static_cast<char>(value);
        EXPECT_EQ(error_of_file(repaired_v3(file)),
                  format("f: CorruptedData: distance metric {} is unknown", value));
        file = whole();
        file[61] = static_cast<char>(value);
        EXPECT_EQ(error_of_file(repaired_v3(file)),
                  format("f: CorruptedData: compression {} is unknown", value));
    }
}

TEST(WdbxV3, Row14MissingSections) {
    EXPECT_EQ(error_of_file(make_v3({{2, ""}}, 0, 0)),
              "f: CorruptedData: 0 metadata sections, one needed");
    EXPECT_EQ(error_of_file(make_v3({{1, metadata_section()}}, 0, 0)),
              "f: CorruptedData: 0 vectors sections, one needed");
    EXPECT_EQ(error_of_file(make_v3({}, 0, 0)),
              "f: CorruptedData: 0 metadata sections, one needed");
}

TEST(WdbxV3, Row15SectionsThatAreThereTwice) {
    const V3Section metadata{1, metadata_section()}, vectors{2, ""};
    EXPECT_EQ(error_of_file(make_v3({metadata, vectors, metadata}, 0, 0)),
              "f: CorruptedData: 2 metadata sections, one needed");
    EXPECT_EQ(error_of_file(make_v3({metadata, vectors, vectors}, 0, 0)),
              "f: CorruptedData: 2 vectors sections, one needed");
}

TEST(WdbxV3, Row16Name) {
    for (const std::string section : {"", "a"}) {
        EXPECT_EQ(error_of_file(make_v3({{1, section}, {2, ""}}, 0, 0)),
                  format("f: CorruptedData: the metadata section has {} bytes, at least 2 needed",
                         section.size()));
    }
    EXPECT_EQ(error_of_file(make_v3({{1, std::string("\x04\0abc", 5)}, {2, ""}}, 0, 0)),
              "f: CorruptedData: a name of 4 bytes does not fit the metadata section of 5");
}

TEST(WdbxV3, Row17RecordsThatRunPastTheirSection) {
    const std::string good = record(1, {1, 2}, "abc");
    for (size_t size = 1; size < good.size(); ++size) {
        EXPECT_EQ(error_of_file(small_file(good + good.substr(0, size), 2, 2)),
                  format("f: CorruptedData: record 1 does not fit the {} bytes left of its section",
                         size));
    }
    for (const size_t field : {8, 12}) {
        std::string huge = good;
        set(huge, field, std::uint32_t{0xFFFFFFFF});
        EXPECT_EQ(error_of_file(small_file(huge, 1, 2)),
                  "f: CorruptedData: record 0 does not fit the 27 bytes left of its section");
        set(huge, 8, std::uint32_t{0x40000002});  // times 4 it would wrap in 32 bits
        EXPECT_NE(error_of_file(small_file(huge, 1, 2)), "");
    }
}

TEST(WdbxV3, Row18VectorsOfAnotherLengthThanTheHeaders) {
    EXPECT_EQ(error_of_file(small_file(record(9, {1, 2}, "a"), 1, 3)),
              "f: CorruptedData: record 0 (id 9) has a vector of 2 floats, 3 needed");
}

TEST(WdbxV3, Row19VectorsOfDifferentLengths) {
    const std::string records = record(9, {1, 2}, "a") + record(10, {1}, "a");
    EXPECT_EQ(error_of_file(small_file(records, 2, 0)),
              "f: CorruptedData: record 1 (id 10) has a vector of 1 floats, 2 needed");
}

TEST(WdbxV3, Row20NumberOfRecords) {
    for (const std::uint64_t count :
         {std::uint64_t{0}, std::uint64_t{2}, (std::uint64_t{1} << 32) + 1, kMost64}) {
        EXPECT_EQ(error_of_file(small_file(record(9, {1}, "a"), count, 1)),
                  format("f: CorruptedData: 1 records, the header says {}", count));
    }
}

TEST(WdbxV3, Row21DuplicateIds) {
    const auto expect = [](const std::vector<std::uint64_t>& ids, const std::string& error) {
        std::string records;
        for (const std::uint64_t id : ids) records += record(id, {1}, "");
        EXPECT_EQ(error_of_file(small_file(records, ids.size(), 1)), error);
    };
    expect({5, 5}, "f: CorruptedData: DuplicateId: id 5 is there twice");
    expect({1, 2, 3, 2}, "f: CorruptedData: DuplicateId: id 2 is there twice");
    expect({7, 3, 4, 5, 1, 4}, "f: CorruptedData: DuplicateId: id 4 is there twice");
    expect({kMost64, 0, kMost64},
           format("f: CorruptedData: DuplicateId: id {} is there twice", kMost64));
    expect({3, 1, 2, kMost64, 0}, "");
}

TEST(WdbxV3, Row22Encrypted) {
    std::string file = whole();
    set(file, 6, std::uint16_t{7 | 128});
    EXPECT_EQ(error_of_file(repaired_v3(file)),
              "f: UnsupportedVersion: encrypted, which cannot be read");
}

TEST(WdbxV3, Row23Compressed) {
    for (const int compression : {1, 2}) {
        std::string file = whole();
        file[61] = static_cast<char>(compression);
        EXPECT_EQ(error_of_file(repaired_v3(file)),
                  format("f: UnsupportedCompression: compressed with {}, which cannot be read",
                         compression == 1 ? "lz4" : "zstd"));
    }
}

// --- what a reader must accept -------------------------------------------------------------

TEST(WdbxV3, FieldsThatNobodyRelyOn) {
    std::string file = whole();
    set(file, 6, std::uint16_t{0});            // flags
    set(file, 8, std::uint16_t{96});           // header size
    set(file, 12, std::uint32_t{0xFFFFFFFF});  // reserved
    set(file, 32, std::int64_t{-1});           // times
    set(file, 40, std::int64_t{5});
    set(file, 56, std::uint32_t{0});               // dimension
    set(file, 62, std::uint16_t{0xFFFF});          // reserved
    set(file, 64, kMost64);                        // uuid
    set(file, kDirectory + 2, std::uint16_t{77});  // flags and item count of a section
    set(file, kVectorsEntry + 24, std::uint32_t{0xFFFFFFFF});
    set(file, kVectorsEntry + 28, std::uint32_t{0xFFFFFFFF});
    set(file, kFooter + 32, kMost64);  // reserved
    EXPECT_EQ(error_of_file(repaired_v3(file)), "");
}

TEST(WdbxV3, QuantisedIsPlainFloats) {
    std::string file = whole();
    set(file, 6, std::uint16_t{7 | 64});
    file[61] = 3;
    EXPECT_EQ(error_of_file(repaired_v3(file)), "");
}

TEST(WdbxV3, NamesMayBeAnythingAndBytesMayFollow) {
    for (const std::string name : {"", "\xFF\xFE", "a longer name"}) {
        const std::string file = make_v3({{1, name_block(name) + "more"}, {2, ""}}, 0, 0);
        EXPECT_EQ(error_of_file(file), "");
        EXPECT_EQ(parse_wdbx(bytes_of(file), "f").name, name);
    }
}

TEST(WdbxV3, TheDirectoryMayLieAnywhereAndSectionsMayOverlap) {
    // Header, unused bytes, records, the directory, unused bytes, and a name inside the records.
    std::string records = record(3, {1}, name_block("inside"));
    std::string file = whole().substr(0, 80) + "unused" + records;
    const std::uint64_t directory = file.size();
    const auto entry = [&](std::uint16_t type, std::uint64_t offset, std::uint64_t length) {
        put(file, type);
        put(file, std::uint16_t{0});
        put(file, offset);
        put(file, length);
        file.append(12, '\0');
    };
    entry(2, 86, records.size());
    entry(1, 86 + 20, 8);
    entry(9, 0, directory);
    file += "unused too" + whole().substr(kFooter);
    set(file, 16, directory);
    set(file, 48, std::uint64_t{1});
    set(file, 56, std::uint32_t{1});
    file = repaired_v3(file);
    EXPECT_EQ(error_of_file(file), "");
    EXPECT_EQ(parse_wdbx(bytes_of(file), "f").name, "inside");
    for (size_t byte = 0; byte < file.size() - 8; ++byte) {
        std::string damaged = file;
        damaged[byte] = static_cast<char>(damaged[byte] ^ 0x10);
        EXPECT_NE(error_of_file(damaged), "") << byte;
    }
}

TEST(WdbxV3, WithoutVerifyingStructureIsStillChecked) {
    std::string file = whole();
    file[kFooter + 4] ^= 1;
    file[300] ^= 1;
    set(file, kVectorsEntry + 20, std::uint32_t{1});
    EXPECT_NE(error_of_file(file), "");
    EXPECT_EQ(error_of_file(file, {.verify_checksums = false}), "");
    set(file, 48, std::uint64_t{4});
    EXPECT_EQ(error_of_file(file, {.verify_checksums = false}),
              "f: CorruptedData: 3 records, the header says 4");
    set(file, kVectorsEntry + 12, kMost64);
    EXPECT_NE(error_of_file(file, {.verify_checksums = false}), "");
}

// Sections that cover each other cost one pass, not one each.
TEST(WdbxV3, ManyOverlappingSectionsAreCheckedInOnePass) {
    std::vector<V3Section> sections(60'000, V3Section{9, ""});
    sections.push_back({1, metadata_section()});
    sections.push_back({2, record(1, {1}, std::string(4 << 20, 'm'))});
    std::string file = make_v3(sections, 1, 1);
    const std::uint64_t end = file.size() - 40;
    for (size_t entry = 80; entry < 80 + 32 * 60'000; entry += 32) {
        set(file, entry + 4, std::uint64_t{2'000'000});
        set(file, entry + 12, end - 2'000'000);
    }
    const std::uint32_t common = crc32_of(file, 2'000'000, end - 2'000'000);
    for (size_t entry = 80; entry < 80 + 32 * 60'000; entry += 32) set(file, entry + 20, common);
    set(file, end + 8, crc32_of(file, 80, 32 * sections.size()));
    set(file, end + 16, crc32_of(file, 0, end));
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(error_of_file(file), "");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(WdbxV3, VectorIndex) {
    const std::string content = numbers({5, 2, 3, 2, 10, 11, 0, 1, 12});
    const WdbxVectorIndex index = parse_wdbx_vector_index(bytes_of(content), "f");
    EXPECT_EQ(index.entry_point, 5U);
    EXPECT_EQ(index.max_layer, 2U);
    EXPECT_EQ(index.begins, (std::vector<std::uint64_t>{0, 2, 2, 3}));
    EXPECT_EQ(index.neighbours, (std::vector<std::uint32_t>{10, 11, 12}));
    const auto expect_error = [](const std::string& bad) {
        EXPECT_EQ(
            error_of<FormatError>([&] { (void)parse_wdbx_vector_index(bytes_of(bad), "f"); }),
            format("f: CorruptedData: the vector index does not end with its section of {} bytes",
                   bad.size()));
    };
    for (size_t size = 0; size < content.size(); ++size) expect_error(content.substr(0, size));
    expect_error(content + "x");
    expect_error(numbers({5, 2, 0xFFFFFFFF}));
    expect_error(numbers({5, 2, 1, 0x40000001, 7}));
}

}  // namespace
}  // namespace tempra::data
