#include "tempra/data/token_block.h"

#include <gtest/gtest.h>

#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

using Tokens = std::vector<std::uint32_t>;

TokenBlock parse(const std::string& block) { return parse_token_block(bytes_of(block), "f"); }

std::string error_of_block(const std::string& block) {
    const std::vector<char> exact(block.begin(), block.end());
    return error_of<FormatError>(
        [&] { (void)parse_token_block(std::as_bytes(std::span(exact)), "f"); });
}

TEST(TokenBlock, ExactBytes) {
    const std::string expected(
        "WDTK\x01\0\0\0\x02\0\0\0\x03\0\0\0\x01\0\0\0\xFF\xFF\xFF\xFF"
        "abc",
        27);
    EXPECT_EQ(token_block({1, 0xFFFFFFFF}, "abc"), expected);
    EXPECT_EQ(token_block_bytes(2, 3, "f"), 27);
}

TEST(TokenBlock, ReadsWhatWasWritten) {
    const std::string block = token_block({7, 8, 9}, "text");
    const TokenBlock found = parse(block);
    EXPECT_EQ(found.token_count, 3);
    EXPECT_EQ(found.text, "text");
    Tokens tokens(2);
    found.read(1, tokens);
    EXPECT_EQ(tokens, (Tokens{8, 9}));
    EXPECT_EQ(error_of<ShapeError>([&] { found.read(2, tokens); }),
              "token block: 2 tokens from 2 asked for, it has 3");
    EXPECT_EQ(parse(token_block({})).token_count, 0);
    EXPECT_EQ(parse(token_block({})).text, "");
}

TEST(TokenBlock, FlagsAndBytesAfterTheTextAreIgnored) {
    std::string block = token_block({7}, "text") + "more";
    set(block, 6, std::uint16_t{0xFFFF});
    EXPECT_EQ(parse(block).token_count, 1);
    EXPECT_EQ(parse(block).text, "text");
}

TEST(TokenBlock, TooShortForItsHeader) {
    for (size_t size = 0; size < 16; ++size) {
        EXPECT_EQ(error_of_block(token_block({7}).substr(0, size)),
                  format("f: InvalidFormat: token block: {} bytes, at least 16 needed", size));
    }
}

TEST(TokenBlock, WrongMagic) {
    std::string block = token_block({7});
    block[3] = 'k';
    EXPECT_EQ(error_of_block(block), "f: InvalidFormat: token block: does not begin with WDTK");
}

TEST(TokenBlock, WrongVersion) {
    for (const int version : {0, 2, 256, 65535}) {
        std::string block = token_block({7});
        set(block, 4, static_cast<std::uint16_t>(version));
        EXPECT_EQ(error_of_block(block),
                  format("f: InvalidFormat: token block: version {}, 1 is known", version));
    }
}

TEST(TokenBlock, MoreTokensThanBytes) {
    std::string block = token_block({7, 8});
    set(block, 8, std::uint32_t{3});
    EXPECT_EQ(error_of_block(block),
              "f: InvalidFormat: token block: 3 tokens need 28 bytes, it has 24");
    // 16 + 4 * count would be small in 32 bits.
    for (const std::uint32_t count : {0xFFFFFFFFU, 0xFFFFFFFCU, 0x40000000U}) {
        set(block, 8, count);
        EXPECT_NE(error_of_block(block).find("tokens need"), std::string::npos) << count;
    }
}

TEST(TokenBlock, TextLongerThanTheBytes) {
    std::string block = token_block({7}, "text");
    for (const std::uint32_t size : {5U, 0xFFFFFFFFU, 0xFFFFFFECU}) {
        set(block, 12, size);
        EXPECT_EQ(error_of_block(block),
                  format("f: InvalidFormat: token block: 1 tokens and a text of {} bytes do not "
                         "fit its 24 bytes",
                         size));
    }
}

TEST(TokenBlock, TooLargeToWrite) {
    constexpr std::int64_t kMostTokens = 1'073'741'819;
    EXPECT_EQ(token_block_bytes(kMostTokens, 0, "f"), 4294967292);
    EXPECT_EQ(token_block_bytes(kMostTokens, 3, "f"), 4294967295);
    EXPECT_EQ(error_of<FormatError>([] { (void)token_block_bytes(kMostTokens, 4, "f"); }),
              "f: PayloadTooLarge: a block of 1073741819 tokens with 4 bytes of text given, "
              "together at most 4294967295 bytes fit");
    EXPECT_THROW((void)token_block_bytes(kMostTokens + 1, 0, "f"), FormatError);
    EXPECT_THROW((void)token_block_bytes(std::int64_t{1} << 62, 0, "f"), FormatError);
    EXPECT_THROW((void)token_block_bytes(0, std::int64_t{1} << 62, "f"), FormatError);
}

}  // namespace
}  // namespace tempra::data
