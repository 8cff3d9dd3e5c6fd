// Reading WDBX version 2: files made after the format's description, and every damage it lists.
#include <gtest/gtest.h>

#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

constexpr std::uint64_t kMost64 = ~std::uint64_t{0};
constexpr std::uint8_t kBloom = 1, kIndex = 2;
const std::string kFilter("\x06\x02\0\0\0\x01\x02", 7);

std::string two_records() {
    return record(1, {1, 0}, token_block({1, 2, 3}, "text")) + record(70000, {4464, 1}, "");
}

// Name, bloom filter, two records, vector index.
std::string whole() {
    return make_v2(kBloom | kIndex, 2, 2,
                   name_block("old") + bloom_block(kFilter) + vector_block(2, two_records()) +
                       index_block(numbers({0, 0, 2, 1, 1, 1, 0})));
}

size_t footer_of(const std::string& file) { return file.size() - 32; }

TEST(WdbxV2, ReadsEveryPart) {
    const std::string file = whole();
    const WdbxLayout layout = parse_wdbx(bytes_of(file), "f");
    EXPECT_EQ(layout.header.version, 2);
    EXPECT_EQ(layout.header.flags, 3);
    EXPECT_EQ(layout.header.dimension, 2U);
    EXPECT_EQ(layout.name, "old");
    ASSERT_EQ(layout.sections.size(), 4U);
    const auto part = [&](std::uint16_t type) {
        const WdbxSection& section = *layout.find(type);
        return file.substr(static_cast<size_t>(section.offset),
                           static_cast<size_t>(section.length));
    };
    EXPECT_EQ(part(wdbx_section::kMetadata), name_block("old"));
    EXPECT_EQ(part(wdbx_section::kBloomFilter), kFilter);
    EXPECT_EQ(part(wdbx_section::kVectors), two_records());
    EXPECT_EQ(part(wdbx_section::kVectorIndex), numbers({0, 0, 2, 1, 1, 1, 0}));
    EXPECT_EQ(layout.ids.count(), 2U);
    EXPECT_EQ(layout.ids.largest(), 70000U);
}

TEST(WdbxV2, PartsThatMayBeAbsent) {
    const std::string name = name_block("");
    EXPECT_EQ(error_of_file(make_v2(0, 2, 2, name + vector_block(2, two_records()))), "");
    // The usual flags of an empty file announce a filter and an index that are not there.
    EXPECT_EQ(error_of_file(make_v2(kBloom | kIndex, 0, 0, name + vector_block(0, ""))), "");
    EXPECT_EQ(
        error_of_file(make_v2(kBloom, 0, 0, name + bloom_block(kFilter) + vector_block(0, ""))),
        "");
}

TEST(WdbxV2, OlderFilesRepeatTheHeadersChecksum) {
    std::string file = whole();
    set(file, footer_of(file) + 12, crc32_of(file, 0, 64));
    EXPECT_EQ(error_of_file(file), "");
}

TEST(WdbxV2, NumberOfBlocksIsNotReliedOn) {
    std::string file = whole();
    set(file, footer_of(file) + 24, std::uint32_t{99});
    EXPECT_EQ(error_of_file(file), "");
}

TEST(WdbxV2, EverySingleFlippedBitIsNoticed) {
    const std::string file = whole();
    for (size_t byte = 0; byte < footer_of(file) + 24; ++byte) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string damaged = file;
            damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
            EXPECT_NE(error_of_file(damaged), "") << byte << " " << bit;
        }
    }
}

TEST(WdbxV2, TooShort) {
    EXPECT_EQ(error_of_file(whole().substr(0, 95)),
              "f: TruncatedData: 95 bytes, at least 96 needed");
    for (size_t size = 0; size < whole().size(); ++size) {
        EXPECT_NE(error_of_file(whole().substr(0, size)), "");
    }
}

TEST(WdbxV2, MagicAndVersion) {
    std::string file = whole();
    file[3] = 'Y';
    EXPECT_EQ(error_of_file(repaired_v2(file)), "f: InvalidMagic: does not begin with WDBX");
    file = whole();
    file[4] = 1;
    EXPECT_EQ(error_of_file(repaired_v2(file)),
              "f: UnsupportedVersion: WDBX version 1, 2 and 3 are known");
}

TEST(WdbxV2, FooterMarker) {
    std::string file = whole();
    file[footer_of(file) + 3] = '3';
    EXPECT_EQ(error_of_file(file),
              "f: InvalidFooter: does not end with a footer: cut short, or bytes were added");
}

TEST(WdbxV2, SizeInTheFooter) {
    std::string file = whole();
    const std::uint64_t size = get<std::uint64_t>(file, footer_of(file) + 16);
    for (const std::uint64_t wrong : {size - 1, size + 32, kMost64}) {
        set(file, footer_of(file) + 16, wrong);
        EXPECT_EQ(error_of_file(file),
                  format("f: CorruptedData: the footer says {} bytes lie before it, there are {}",
                         wrong, size));
    }
}

TEST(WdbxV2, Checksums) {
    const std::vector<std::pair<size_t, std::string>> parts = {
        {4, "header"}, {8, "data"}, {12, "file"}};
    for (const auto& [offset, name] : parts) {
        std::string file = whole();
        const size_t place = footer_of(file) + offset;
        const auto right = get<std::uint32_t>(file, place);
        set(file, place, right ^ 1);
        EXPECT_EQ(error_of_file(file), format("f: InvalidChecksum: checksum of the {} is {}, the "
                                              "file says {}: it is damaged",
                                              name, right, right ^ 1));
        EXPECT_EQ(error_of_file(file, {.verify_checksums = false}), "");
    }
}

TEST(WdbxV2, NameThatRunsIntoTheFooter) {
    const std::string end = " runs into the footer at ";
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, "a")),
              "f: TruncatedData: the name at byte 64" + end + "65");
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, std::string("\x04\0abc", 5))),
              "f: TruncatedData: the name at byte 64" + end + "69");
}

TEST(WdbxV2, BloomFilterBlockThatRunsIntoTheFooter) {
    const std::string name = name_block("");
    EXPECT_EQ(error_of_file(make_v2(kBloom, 1, 1, name + bloom_block(kFilter).substr(0, 7))),
              "f: TruncatedData: the bloom filter's block at byte 66 runs into the footer at 73");
    EXPECT_EQ(error_of_file(make_v2(kBloom, 1, 1, name + bloom_block(kFilter).substr(0, 14))),
              "f: TruncatedData: the bloom filter at byte 74 runs into the footer at 80");
    std::string huge = bloom_block(kFilter);
    set(huge, 4, std::uint32_t{0xFFFFFFFF});
    EXPECT_EQ(error_of_file(make_v2(kBloom, 1, 1, name + huge)),
              "f: TruncatedData: the bloom filter at byte 74 runs into the footer at 81");
}

TEST(WdbxV2, BloomFilterAnnouncedAndNotThere) {
    const std::string name = name_block("");
    EXPECT_EQ(error_of_file(make_v2(kBloom, 2, 2, name + vector_block(2, two_records()))),
              "f: InvalidBloomFilter: announced, and absent");
    EXPECT_EQ(error_of_file(
                  make_v2(kBloom, 2, 2, name + bloom_block("") + vector_block(2, two_records()))),
              "f: InvalidBloomFilter: announced, and empty");
}

TEST(WdbxV2, VectorBlockThatRunsIntoTheFooter) {
    const std::string name = name_block("");
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, name + vector_block(0, "").substr(0, 15))),
              "f: TruncatedData: the vectors' block at byte 66 runs into the footer at 81");
    for (const std::uint64_t size : {std::uint64_t{17}, kMost64}) {
        std::string block = vector_block(1, record(1, {}, ""));
        set(block, 8, size);
        EXPECT_EQ(error_of_file(make_v2(0, 1, 1, name + block)),
                  "f: TruncatedData: the vectors at byte 82 runs into the footer at 98");
    }
}

TEST(WdbxV2, NoVectorBlock) {
    const std::string name = name_block("");
    std::string block = vector_block(0, "");
    for (const int type : {0, 1, 2, 3, 5, 255}) {
        block[0] = static_cast<char>(type);
        EXPECT_EQ(error_of_file(make_v2(0, 0, 0, name + block)),
                  format("f: CorruptedData: a block of type {} where the vectors are to be", type));
    }
}

TEST(WdbxV2, NumberOfRecords) {
    const std::string blocks = name_block("") + vector_block(2, two_records());
    for (const std::uint64_t count :
         {std::uint64_t{1}, std::uint64_t{3}, (std::uint64_t{1} << 32) + 2}) {
        EXPECT_EQ(error_of_file(make_v2(0, count, 2, blocks)),
                  format("f: CorruptedData: 2 records, the header says {}", count));
    }
}

TEST(WdbxV2, RecordsOfDimensionZero) {
    EXPECT_EQ(error_of_file(make_v2(0, 1, 0, name_block("") + vector_block(1, record(1, {}, "")))),
              "f: CorruptedData: 1 records of dimension 0");
}

TEST(WdbxV2, BlockTooSmallForItsRecords) {
    std::string block = vector_block(2, std::string(40, '\0'));
    set(block, 8, std::uint64_t{31});
    EXPECT_EQ(error_of_file(make_v2(0, 2, 2, name_block("") + block)),
              "f: CorruptedData: 2 records do not fit 31 bytes");
    set(block, 4, std::uint32_t{0xFFFFFFFF});
    EXPECT_EQ(error_of_file(make_v2(0, 0xFFFFFFFF, 2, name_block("") + block)),
              "f: CorruptedData: 4294967295 records do not fit 31 bytes");
}

TEST(WdbxV2, RecordsThatRunIntoTheFooter) {
    std::string records = record(1, {1}, "abc");
    set(records, 12, std::uint32_t{4});
    EXPECT_EQ(error_of_file(make_v2(0, 1, 1, name_block("") + vector_block(1, records))),
              "f: TruncatedData: record 0 at byte 82 runs into the footer at 105");
    records = record(1, {1}, std::string(12, 'm')) + "too short";
    EXPECT_EQ(error_of_file(make_v2(0, 2, 1, name_block("") + vector_block(2, records))),
              "f: TruncatedData: record 1 at byte 82 runs into the footer at 123");
}

TEST(WdbxV2, VectorsOfAnotherLength) {
    EXPECT_EQ(error_of_file(make_v2(0, 2, 3, name_block("") + vector_block(2, two_records()))),
              "f: CorruptedData: record 0 (id 1) has a vector of 2 floats, 3 needed");
}

TEST(WdbxV2, VectorLengthsThatWrap) {
    std::string records = record(1, {1}, "");
    set(records, 8, std::uint32_t{0x40000001});
    EXPECT_EQ(error_of_file(make_v2(0, 1, 0x40000001, name_block("") + vector_block(1, records))),
              "f: CorruptedData: record 0 has a vector of 1073741825 floats");
}

TEST(WdbxV2, RecordsThatDoNotFillTheirBlock) {
    for (const int more : {1, 40}) {
        const std::string records = two_records() + std::string(static_cast<size_t>(more), '\0');
        EXPECT_EQ(error_of_file(make_v2(0, 2, 2, name_block("") + vector_block(2, records))),
                  format("f: CorruptedData: the records take {} bytes, their block says {}",
                         two_records().size(), records.size()));
    }
    // Records that reach beyond their block, into the index.
    std::string block = vector_block(2, two_records());
    set(block, 8, std::uint64_t{two_records().size() - 1});
    EXPECT_NE(error_of_file(make_v2(0, 2, 2, name_block("") + block)), "");
}

TEST(WdbxV2, IndexThatRunsIntoTheFooter) {
    const std::string front = name_block("") + vector_block(0, "");
    for (const std::string& content :
         {numbers({0, 0}), numbers({0, 0, 1}), numbers({0, 0, 1, 2, 7}),
          numbers({0, 0, 0xFFFFFFFF}), numbers({0, 0, 1, 0x40000001, 7})}) {
        EXPECT_EQ(error_of_file(make_v2(0, 0, 0, front + index_block(content))),
                  format("f: TruncatedData: the vector index at byte 86 runs into the footer at {}",
                         86 + content.size()));
    }
}

TEST(WdbxV2, BytesLeftOver) {
    const std::string front = name_block("") + vector_block(0, "");
    const std::string error = " bytes that belong to nothing before the footer";
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, front + "x")), "f: CorruptedData: 1" + error);
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, front + "\x03\x03")), "f: CorruptedData: 2" + error);
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, front + vector_block(0, ""))),
              "f: CorruptedData: 16" + error);
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, front + index_block(numbers({0, 0, 0, 9})))),
              "f: CorruptedData: 4" + error);
}

TEST(WdbxV2, DuplicateIds) {
    const std::string records = record(5, {1}, "") + record(5, {1}, "");
    EXPECT_EQ(error_of_file(make_v2(0, 2, 1, name_block("") + vector_block(2, records))),
              "f: CorruptedData: DuplicateId: id 5 is there twice");
}

TEST(WdbxV2, MetricCompressionAndEncryption) {
    const std::vector<std::tuple<size_t, int, std::string>> cases = {
        {36, 4, "CorruptedData: distance metric 4 is unknown"},
        {37, 4, "CorruptedData: compression 4 is unknown"},
        {37, 1, "UnsupportedCompression: compressed with lz4, which cannot be read"},
        {37, 2, "UnsupportedCompression: compressed with zstd, which cannot be read"},
        {6, 8, "UnsupportedVersion: encrypted, which cannot be read"},
    };
    for (const auto& [offset, value, error] : cases) {
        std::string file = whole();
        file[offset] = static_cast<char>(value);
        EXPECT_EQ(error_of_file(repaired_v2(file)), "f: " + error);
    }
    std::string block = vector_block(0, "");
    block[1] = 9;
    EXPECT_EQ(error_of_file(make_v2(0, 0, 0, name_block("") + block)),
              "f: CorruptedData: compression 9 is unknown");
}

}  // namespace
}  // namespace tempra::data
