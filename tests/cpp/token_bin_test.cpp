#include "tempra/data/token_bin.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <limits>

#include "platform/files.h"
#include "temporary_directory.h"
#include "tempra/io/crc32.h"

namespace tempra::data {
namespace {

using Tokens = std::vector<std::uint32_t>;

class TokenBinTest : public ::testing::Test {
  protected:
    void TearDown() override { platform::set_write_fault({}); }
    io::WrittenFile write(const Tokens& tokens, DType dtype) {
        TokenBinWriter writer(path_, dtype);
        writer.append(tokens);
        return writer.commit();
    }
    [[nodiscard]] Tokens read_all(DType dtype) const {
        const TokenBinReader reader(path_, dtype);
        Tokens tokens(static_cast<size_t>(reader.size()));
        reader.read(0, tokens);
        return tokens;
    }

    TemporaryDirectory folder_;
    std::string path_ = folder_ / "tokens.bin";
};

TEST_F(TokenBinTest, ExactBytes) {
    const io::WrittenFile written = write({1, 0x01020304, 0xFFFFFFFF}, DType::u32);
    const std::string expected("\x01\0\0\0\x04\x03\x02\x01\xFF\xFF\xFF\xFF", 12);
    EXPECT_EQ(read_text(path_), expected);
    EXPECT_EQ(written.bytes, 12);
    EXPECT_EQ(written.crc32, io::crc32(expected.data(), 12));
    write({1, 0x0203, 0xFFFF}, DType::u16);
    EXPECT_EQ(read_text(path_), std::string("\x01\0\x03\x02\xFF\xFF", 6));
}

TEST_F(TokenBinTest, RoundTripsInPieces) {
    for (const DType dtype : {DType::u32, DType::u16}) {
        Tokens tokens(300'001);
        for (size_t i = 0; i < tokens.size(); ++i) {
            tokens[i] =
                static_cast<std::uint32_t>(i * 2654435761U) & (dtype == DType::u16 ? 0xFFFF : ~0U);
        }
        TokenBinWriter writer(path_, dtype);
        for (size_t begin = 0; begin < tokens.size(); begin += 9973) {
            writer.append(
                std::span(tokens).subspan(begin, std::min<size_t>(9973, tokens.size() - begin)));
        }
        EXPECT_EQ(writer.size(), 300'001);
        writer.commit();
        EXPECT_EQ(read_all(dtype), tokens);
        const TokenBinReader reader(path_, dtype);
        EXPECT_EQ(reader.required_vocabulary(),
                  std::int64_t{*std::max_element(tokens.begin(), tokens.end())} + 1);
        Tokens some(7);
        reader.read(299'994, some);
        EXPECT_EQ(some, Tokens(tokens.end() - 7, tokens.end()));
        EXPECT_EQ(reader.dtype(), dtype);
    }
}

TEST_F(TokenBinTest, EmptyFileHoldsNoTokens) {
    write({}, DType::u32);
    const TokenBinReader reader(path_);
    EXPECT_EQ(reader.size(), 0);
    EXPECT_EQ(reader.data(), nullptr);
    EXPECT_EQ(reader.required_vocabulary(), 0);
    reader.read(0, {});
}

TEST_F(TokenBinTest, ErrorsNameTheFile) {
    EXPECT_EQ(error_of<IoError>([&] { TokenBinReader reader(path_); }),
              "open " + path_ + ": No such file or directory");
    write_text(path_, "12345");
    EXPECT_EQ(error_of<FormatError>([&] { TokenBinReader reader(path_); }),
              path_ +
                  ": InvalidFormat: 5 bytes are not a whole number of u32 tokens (4 bytes each); "
                  "the file is cut "
                  "short or of another format");
    EXPECT_EQ(error_of<FormatError>([&] { TokenBinReader reader(path_, DType::u16); }),
              path_ +
                  ": InvalidFormat: 5 bytes are not a whole number of u16 tokens (2 bytes each); "
                  "the file is cut "
                  "short or of another format");
    EXPECT_EQ(error_of<DtypeError>([&] { TokenBinReader reader(path_, DType::i64); }),
              "token-bin: dtype i64 given, u32 or u16 needed");
    EXPECT_THROW(TokenBinWriter(path_, DType::f32), DtypeError);
    EXPECT_EQ(read_text(path_), "12345");
}

TEST_F(TokenBinTest, ReadsOutsideTheFileAreRefused) {
    write({1, 2, 3}, DType::u32);
    const TokenBinReader reader(path_);
    Tokens out(2);
    EXPECT_EQ(error_of<ShapeError>([&] { reader.read(2, out); }),
              path_ + ": 2 tokens from 2 asked for, the file has 3");
    EXPECT_THROW(reader.read(-1, out), ShapeError);
    EXPECT_THROW(reader.read(std::numeric_limits<std::int64_t>::max(), out), ShapeError);
}

TEST_F(TokenBinTest, TokensThatDoNotFitAreNamedAndNothingIsWritten) {
    TokenBinWriter writer(path_, DType::u16);
    writer.append(Tokens(5000, 1));
    EXPECT_EQ(error_of<FormatError>([&] {
                  writer.append(Tokens{5, 65536});
              }),
              path_ + ": token 65536 at position 5001 does not fit u16; use u32");
    writer = TokenBinWriter(folder_ / "other");
    EXPECT_FALSE(platform::exists(path_));
}

TEST_F(TokenBinTest, FailingWritesKeepTheOldFile) {
    write({7}, DType::u32);
    const Tokens many(600'000, 3);
    for (int operation = 1;; ++operation) {
        platform::set_write_fault({operation, ENOSPC, true});
        bool failed = false;
        try {
            write(many, DType::u32);
        } catch (const IoError&) {
            failed = true;
        }
        platform::set_write_fault({});
        EXPECT_EQ(folder_.names(), std::vector<std::string>{"tokens.bin"});
        if (!failed) break;
        const Tokens found = read_all(DType::u32);
        EXPECT_TRUE(found == Tokens{7} || (found == many && operation == 6)) << operation;
    }
    EXPECT_EQ(read_all(DType::u32), many);
}

// A sparse file: more than 2^31 tokens, without the disk space.
TEST_F(TokenBinTest, CountsBeyondThirtyTwoBits) {
    write_text(path_, "");
    std::filesystem::resize_file(path_, (std::uintmax_t{1} << 34) + 8);
    const TokenBinReader reader(path_);
    EXPECT_EQ(reader.size(), (std::int64_t{1} << 32) + 2);
    Tokens last{9, 9};
    reader.read(std::int64_t{1} << 32, last);
    EXPECT_EQ(last, (Tokens{0, 0}));
}

}  // namespace
}  // namespace tempra::data
