#include "tempra/data/wdbx_token_dataset.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "platform/files.h"
#include "tempra/data/token_bin_sidecar.h"
#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

using Tokens = std::vector<std::uint32_t>;
constexpr std::uint64_t kMost64 = ~std::uint64_t{0};

class WdbxTokenDatasetTest : public ::testing::Test {
  protected:
    void TearDown() override { platform::set_write_fault({}); }

    std::string write_tokens(const Tokens& tokens) {
        TokenBinWriter writer(bin_);
        writer.append(tokens);
        writer.commit();
        return bin_;
    }

    TemporaryDirectory folder_;
    std::string path_ = folder_ / "a.wdbx";
    std::string bin_ = folder_ / "a.bin";
};

Tokens counting(std::uint32_t count) {
    Tokens tokens(count);
    for (std::uint32_t i = 0; i < count; ++i) tokens[i] = i * 2654435761U;
    return tokens;
}

TEST_F(WdbxTokenDatasetTest, RecreatesTheOriginalProgramsFiles) {
    WdbxTokenDataset dataset(path_);
    EXPECT_EQ(dataset.append(Tokens{1, 2, 3, 4}, "hello"), 1U);
    EXPECT_EQ(dataset.append(Tokens{50256, 0, 4294967295, 7, 65536}), 2U);
    EXPECT_EQ(dataset.append(Tokens{100, 200, 300}, "na\xC3\xAFve \xE2\x98\x83"), 3U);
    dataset.save();
    EXPECT_EQ(read_text(path_), golden("three-blocks.wdbx"));
    EXPECT_EQ(wdbx_to_token_bin(path_, bin_), 12);
    EXPECT_EQ(read_text(bin_), golden("three-blocks.bin"));
    EXPECT_EQ(token_bin_to_wdbx(golden_path("empty.bin"), folder_ / "b"), 0);
    EXPECT_EQ(read_text(folder_ / "b"), golden("empty.wdbx"));
    EXPECT_EQ(wdbx_to_token_bin(folder_ / "b", bin_), 0);
    EXPECT_EQ(read_text(bin_), "");
}

TEST_F(WdbxTokenDatasetTest, RoundTripsAtManyBlockSizes) {
    for (const std::uint32_t count : {0U, 1U, 5U, 2047U, 2048U, 2049U, 300'000U}) {
        const Tokens tokens = counting(count);
        write_tokens(tokens);
        for (const std::int64_t block : {1, 3, 2048, 299'999, 300'000, 1 << 30}) {
            if (block == 1 && count > 10'000) continue;
            EXPECT_EQ(token_bin_to_wdbx(bin_, path_, block, ExistingFile::replace), count);
            const WdbxTokenDataset dataset(path_);
            EXPECT_EQ(dataset.block_count(), (count + block - 1) / block);
            EXPECT_EQ(dataset.token_count(), count);
            EXPECT_EQ(dataset.collect(), tokens);
            EXPECT_EQ(dataset.export_token_bin(folder_ / "back"), count);
            EXPECT_EQ(read_text(folder_ / "back"), read_text(bin_));
        }
    }
}

TEST_F(WdbxTokenDatasetTest, VectorsRepeatTheId) {
    const std::uint64_t id = 0x0123456789ABCDEF;
    write_text(path_, make_v3({{1, name_block("x")}, {2, record(id - 1, {9, 9, 9, 9}, "")}}, 1, 4));
    WdbxTokenDataset dataset(path_);
    EXPECT_EQ(dataset.append(Tokens{1}), id);
    dataset.save();
    const WdbxFile file(path_);
    EXPECT_EQ(file.layout().name, "x");
    WdbxRecordCursor cursor = file.records();
    WdbxRecord found;
    ASSERT_TRUE(cursor.next(found));
    ASSERT_TRUE(cursor.next(found));
    std::vector<float> vector(4);
    std::memcpy(vector.data(), found.vector.data(), 16);
    EXPECT_EQ(vector, (std::vector<float>{52719, 35243, 17767, 291}));
}

TEST_F(WdbxTokenDatasetTest, ExportStopsWhereAsked) {
    for (const std::int64_t most : {0, 1, 4, 5, 11, 12, 13}) {
        EXPECT_EQ(wdbx_to_token_bin(golden_path("three-blocks.wdbx"), bin_, most),
                  most == 0 ? 12 : std::min<std::int64_t>(most, 12));
        const std::string all = golden("three-blocks.bin");
        EXPECT_EQ(read_text(bin_), most == 0 ? all : all.substr(0, static_cast<size_t>(4 * most)));
        const WdbxTokenDataset dataset(golden_path("three-blocks.wdbx"));
        EXPECT_EQ(std::ssize(dataset.collect(most)),
                  most == 0 ? 12 : std::min<std::int64_t>(most, 12));
    }
    EXPECT_EQ(error_of<ConfigError>(
                  [&] { wdbx_to_token_bin(golden_path("three-blocks.wdbx"), bin_, -1); }),
              "max_tokens: -1 given, at least 0 needed (0: all)");
}

TEST_F(WdbxTokenDatasetTest, UnsavedBlocksAreSeen) {
    write_text(path_, golden("three-blocks.wdbx"));
    write_tokens({21, 22, 23});
    WdbxTokenDataset dataset(path_);
    EXPECT_FALSE(dataset.has_unsaved());
    EXPECT_EQ(dataset.append(Tokens{11, 12}, "t"), 4U);
    EXPECT_EQ(dataset.import_token_bin(bin_, 2), 3);
    EXPECT_EQ(dataset.append({}), 7U);
    EXPECT_TRUE(dataset.has_unsaved());
    const Tokens expected{1,   2,   3,   4,  50256, 0,  4294967295, 7, 65536,
                          100, 200, 300, 11, 12,    21, 22,         23};
    EXPECT_EQ(dataset.collect(), expected);
    EXPECT_EQ(dataset.token_count(), 17);
    EXPECT_EQ(dataset.block_count(), 7);
    EXPECT_EQ(read_text(path_), golden("three-blocks.wdbx"));
    dataset.save();
    EXPECT_FALSE(dataset.has_unsaved());
    EXPECT_EQ(dataset.collect(), expected);
    const WdbxTokenDataset reopened(path_);
    EXPECT_EQ(reopened.collect(), expected);
    WdbxTokenDataset::Cursor cursor(reopened);
    WdbxTokenDataset::Block block;
    std::vector<std::uint64_t> ids;
    std::vector<std::string> texts;
    while (cursor.next(block)) {
        ids.push_back(block.id);
        texts.emplace_back(block.text);
    }
    EXPECT_EQ(ids, (std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6, 7}));
    EXPECT_EQ(texts[3], "t");
}

TEST_F(WdbxTokenDatasetTest, WhatToDoWithAnExistingFile) {
    write_tokens({1, 2, 3});
    EXPECT_EQ(token_bin_to_wdbx(bin_, path_), 3);
    const std::string once = read_text(path_);
    EXPECT_EQ(error_of<IoError>([&] { token_bin_to_wdbx(bin_, path_); }),
              path_ + ": exists already; replace it or append to it (mode)");
    EXPECT_EQ(read_text(path_), once);
    EXPECT_EQ(token_bin_to_wdbx(bin_, path_, 2048, ExistingFile::append), 3);
    EXPECT_EQ(WdbxTokenDataset(path_).collect(), (Tokens{1, 2, 3, 1, 2, 3}));
    EXPECT_EQ(token_bin_to_wdbx(bin_, path_, 2048, ExistingFile::replace), 3);
    EXPECT_EQ(read_text(path_), once);
    EXPECT_EQ(token_bin_to_wdbx(bin_, folder_ / "new", 2048, ExistingFile::append), 3);
    EXPECT_EQ(read_text(folder_ / "new"), once);
    // Replacing does not read what is there; appending never covers damage up.
    std::string damaged = once;
    damaged[200] ^= 1;
    write_text(path_, damaged);
    EXPECT_THROW(token_bin_to_wdbx(bin_, path_, 2048, ExistingFile::append), FormatError);
    EXPECT_EQ(read_text(path_), damaged);
    token_bin_to_wdbx(bin_, path_, 2048, ExistingFile::replace);
    EXPECT_EQ(read_text(path_), once);
}

TEST_F(WdbxTokenDatasetTest, AppendingToVersion2GivesVersion3) {
    const std::string index = numbers({0, 0, 1, 0});
    write_text(path_, make_v2(2, 1, 4,
                              name_block("old") +
                                  vector_block(1, record(41, {1, 2, 3, 4}, token_block({5}))) +
                                  index_block(index)));
    WdbxTokenDataset dataset(path_);
    EXPECT_EQ(dataset.append(Tokens{6}), 42U);
    dataset.save();
    const WdbxFile file(path_);
    EXPECT_EQ(file.layout().header.version, 3);
    EXPECT_EQ(file.layout().name, "old");
    EXPECT_EQ(dataset.collect(), (Tokens{5, 6}));
    const auto found = file.bytes(*file.layout().find(wdbx_section::kVectorIndex));
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(found.data()), found.size()), index);
}

TEST_F(WdbxTokenDatasetTest, FileOrderRulesAndRecordsWithoutMetadataHoldNothing) {
    write_text(path_,
               make_v3({{1, name_block("")},
                        {2, record(9, {}, token_block({1})) + record(3, {}, "") +
                                record(5, {}, token_block({})) + record(2, {}, token_block({2}))}},
                       4, 0));
    const WdbxTokenDataset dataset(path_);
    EXPECT_EQ(dataset.collect(), (Tokens{1, 2}));
    EXPECT_EQ(dataset.block_count(), 4);
}

TEST_F(WdbxTokenDatasetTest, MetadataThatIsNoTokenBlock) {
    std::string short_text = token_block({7}, "text");
    short_text.pop_back();
    const std::string bad[] = {"a model's name, for example", short_text};
    for (const std::string& metadata : bad) {
        write_text(path_, make_v3({{1, name_block("")}, {2, record(8, {}, metadata)}}, 1, 0));
        const std::string expected = path_ + ": record 0 (id 8): InvalidFormat: token block: ";
        const auto message = error_of<FormatError>([&] { WdbxTokenDataset dataset(path_); });
        EXPECT_EQ(message.substr(0, expected.size()), expected);
        EXPECT_THROW(wdbx_to_token_bin(path_, bin_), FormatError);
        EXPECT_FALSE(platform::exists(bin_));
    }
}

TEST_F(WdbxTokenDatasetTest, WhatCannotBeAppended) {
    write_text(path_, make_v3({{1, name_block("")}, {2, record(8, {1, 2}, "")}}, 1, 2));
    WdbxTokenDataset other(path_);
    EXPECT_EQ(
        error_of<FormatError>([&] { other.append(Tokens{1}); }),
        path_ + ": InvalidDimension: its vectors have 2 floats, appending token blocks needs 4");
    write_text(path_,
               make_v3({{1, name_block("")}, {2, record(kMost64 - 1, {1, 2, 3, 4}, "")}}, 1, 4));
    WdbxTokenDataset full(path_);
    write_tokens({1, 2, 3});
    EXPECT_EQ(error_of<FormatError>([&] { full.import_token_bin(bin_, 2); }),
              format("{}: PayloadTooLarge: 2 blocks given, but the ids after {} are used up", path_,
                     kMost64 - 1));
    EXPECT_EQ(full.append(Tokens{1}), kMost64);
    EXPECT_THROW(full.append(Tokens{1}), FormatError);
    full.save();
    EXPECT_EQ(WdbxTokenDataset(path_).block_count(), 2);
}

TEST_F(WdbxTokenDatasetTest, BlockSizesThatAreImpossible) {
    write_tokens({1, 2, 3});
    for (const std::int64_t block : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 32}) {
        EXPECT_EQ(error_of<FormatError>([&] { token_bin_to_wdbx(bin_, path_, block); }),
                  format("{}: InvalidFormat: blocks of {} tokens asked for, 1 to 4294967295 are "
                         "possible",
                         bin_, block));
    }
    EXPECT_FALSE(platform::exists(path_));
    EXPECT_EQ(token_bin_to_wdbx(bin_, path_, 0xFFFFFFFF), 3);
    // A sparse file of more tokens than one record holds.
    std::filesystem::resize_file(bin_, std::uintmax_t{4} * 1'073'741'820);
    EXPECT_EQ(error_of<FormatError>([&] { token_bin_to_wdbx(bin_, folder_ / "b", 0xFFFFFFFF); }),
              bin_ +
                  ": PayloadTooLarge: a block of 1073741820 tokens with 0 bytes of text given, "
                  "together at most 4294967295 bytes fit");
    EXPECT_FALSE(platform::exists(folder_ / "b"));
}

TEST_F(WdbxTokenDatasetTest, FilesThatAreMissingOrBroken) {
    EXPECT_EQ(error_of<IoError>([&] { wdbx_to_token_bin(path_, bin_); }),
              "open " + path_ + ": No such file or directory");
    EXPECT_EQ(error_of<IoError>([&] { token_bin_to_wdbx(bin_, path_); }),
              "open " + bin_ + ": No such file or directory");
    write_text(bin_, "12345");
    EXPECT_THROW(token_bin_to_wdbx(bin_, path_), FormatError);
    write_text(path_, "WDBX");
    EXPECT_EQ(error_of<FormatError>([&] { wdbx_to_token_bin(path_, bin_); }),
              path_ + ": TruncatedData: 4 bytes, too few for a WDBX file");
    EXPECT_EQ(read_text(bin_), "12345");
}

TEST_F(WdbxTokenDatasetTest, FailingSavesKeepTheFileAndWhatWasAppended) {
    write_text(path_, golden("three-blocks.wdbx"));
    WdbxTokenDataset dataset(path_);
    dataset.append(Tokens(700'000, 5));
    for (int operation = 1; operation < 7; ++operation) {
        platform::set_write_fault({operation, ENOSPC, true, true});
        EXPECT_THROW(dataset.save(), IoError) << operation;
        platform::set_write_fault({});
        EXPECT_EQ(read_text(path_), golden("three-blocks.wdbx"));
        EXPECT_EQ(folder_.names(), std::vector<std::string>{"a.wdbx"});
    }
    EXPECT_EQ(dataset.token_count(), 700'012);
    dataset.save();
    EXPECT_EQ(WdbxTokenDataset(path_).token_count(), 700'012);
}

// --- the sidecar of a token-bin ------------------------------------------------------------

std::string sidecar(const std::string& dtype, std::int64_t tokens, std::uint32_t crc32) {
    return format(R"({"format":"tempra-token-bin","version":1,"dtype":"{}","tokens":{},)"
                  R"("crc32":{},"documents":1,"bounds_crc32":7,"vocabulary_size":65536,)"
                  R"("end_of_text":null,"tokenizer_kind":"byte","tokenizer_fingerprint":"ab",)"
                  R"("later":[{}]})",
                  dtype, tokens, crc32, "{}");
}

TEST_F(WdbxTokenDatasetTest, TheSidecarSaysTheType) {
    TokenBinWriter writer(bin_, DType::u16);
    Tokens tokens(10'000);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::uint32_t>(i * 6);
    writer.append(tokens);
    const io::WrittenFile written = writer.commit();
    write_text(bin_ + ".meta.json", sidecar("u16", 10'000, written.crc32));
    EXPECT_EQ(token_bin_to_wdbx(bin_, path_, 4999), 10'000);
    EXPECT_EQ(WdbxTokenDataset(path_).collect(), tokens);
    WdbxTokenDataset unsaved(folder_ / "b");
    unsaved.import_token_bin(bin_, 4999);
    EXPECT_EQ(unsaved.collect(5000), Tokens(tokens.begin(), tokens.begin() + 5000));
    EXPECT_EQ(error_of<FormatError>([&] { wdbx_to_token_bin(path_, bin_); }),
              bin_ +
                  ".meta.json: describes the file that would be replaced; remove it first, or "
                  "write elsewhere");

    write_text(bin_ + ".meta.json", sidecar("u16", 9'999, written.crc32));
    EXPECT_EQ(error_of<FormatError>([&] { (void)open_token_bin(bin_); }),
              bin_ +
                  ": holds 10000 tokens, its .meta.json says 9999: the file is truncated or was "
                  "changed");
    write_text(bin_ + ".meta.json", sidecar("u16", 10'000, 1));
    EXPECT_EQ(error_of<FormatError>([&] { (void)open_token_bin(bin_); }),
              format("{}: checksum is {}, its .meta.json says 1: the file is damaged", bin_,
                     written.crc32));
    write_text(bin_ + ".meta.json", std::string(2 << 20, ' '));
    EXPECT_EQ(error_of<FormatError>([&] { (void)open_token_bin(bin_); }),
              bin_ + ".meta.json: has 2097152 bytes, at most 1048576 are allowed");
}

TEST(TokenBinSidecar, ReadsEveryField) {
    const TokenBinSidecar found = parse_token_bin_sidecar(sidecar("u16", 5, 0xFFFFFFFF), "f");
    EXPECT_EQ(found.dtype, DType::u16);
    EXPECT_EQ(found.tokens, 5);
    EXPECT_EQ(found.crc32, 0xFFFFFFFF);
    EXPECT_EQ(found.documents, 1);
    EXPECT_EQ(found.bounds_crc32, 7U);
    EXPECT_EQ(found.vocabulary_size, 65536);
    EXPECT_FALSE(found.end_of_text.has_value());
    EXPECT_EQ(found.tokenizer_kind, "byte");
    EXPECT_EQ(found.tokenizer_fingerprint, "ab");
}

TEST(TokenBinSidecar, Errors) {
    const auto expect = [](const std::string& old, const std::string& changed,
                           const std::string& message) {
        std::string text = sidecar("u16", 5, 6);
        const size_t place = text.find(old);
        ASSERT_NE(place, std::string::npos);
        text.replace(place, old.size(), changed);
        const std::string error =
            error_of<FormatError>([&] { (void)parse_token_bin_sidecar(text, "f"); });
        EXPECT_NE(error.find(message), std::string::npos) << error;
    };
    expect("tempra-token-bin", "other", "format is \"other\", tempra-token-bin needed");
    expect("\"version\":1", "\"version\":2", "version is 2, 1 to 1 are possible");
    expect("\"u16\"", "\"i32\"", "dtype is \"i32\", u32 or u16 needed");
    expect("\"tokens\":5", "\"tokens\":-1", "tokens is -1");
    expect("\"crc32\":6", "\"crc32\":4294967296", "crc32 is 4294967296");
    expect("\"documents\":1", "\"documents\":1.5", "");
    expect("65536", "0", "vocabulary_size is 0");
    expect("null", "-1", "end_of_text is -1");
    expect("\"tokens\":5,", "", "f: has no field tokens");
    expect("\"later\"", "\"tokens\"", "");
    expect("]}", "]", "");
}

}  // namespace
}  // namespace tempra::data
