#include "tempra/io/crc32.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "io/crc32.h"
#include "temporary_directory.h"
#include "tempra/error.h"

namespace tempra::io {
namespace {

std::vector<unsigned char> random_bytes(size_t count) {
    std::mt19937 generator(7);
    std::vector<unsigned char> bytes(count);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(generator());
    return bytes;
}

// Bit by bit, from the definition.
std::uint32_t reference(const unsigned char* data, std::int64_t size) {
    std::uint32_t state = 0xFFFFFFFF;
    for (std::int64_t i = 0; i < size; ++i) {
        state ^= data[i];
        for (int bit = 0; bit < 8; ++bit)
            state = (state >> 1) ^ ((state & 1) != 0 ? 0xEDB88320 : 0);
    }
    return ~state;
}

std::uint32_t of_text(const char* text) {
    return crc32(text, static_cast<std::int64_t>(std::strlen(text)));
}

TEST(Crc32, KnownValues) {
    EXPECT_EQ(of_text(""), 0U);
    EXPECT_EQ(of_text("123456789"), 0xCBF43926U);
    EXPECT_EQ(of_text("a"), 0xE8B7BE43U);
    EXPECT_EQ(of_text("The quick brown fox jumps over the lazy dog"), 0x414FA339U);
    const std::vector<unsigned char> zeros(4096, 0), ones(4096, 0xFF);
    EXPECT_EQ(crc32(zeros.data(), 32), 0x190A55ADU);
    EXPECT_EQ(crc32(ones.data(), 32), 0xFF6CAB0BU);
    EXPECT_EQ(crc32(zeros.data(), 4096), 0xC71C0011U);
}

TEST(Crc32, ImplementationsAgreeWithTheDefinitionAtEveryLength) {
    const std::vector<unsigned char> bytes = random_bytes(1700);
    for (std::int64_t size = 0; size < 1600; ++size) {
        for (const int shift : {0, 1, 7}) {
            const unsigned char* data = bytes.data() + shift;
            const std::uint32_t expected = reference(data, size);
            ASSERT_EQ(~crc32_portable(~0U, data, size), expected) << size;
            ASSERT_EQ(crc32(data, size), expected) << size;
            if (crc32_carryless_available()) {
                ASSERT_EQ(~crc32_carryless(~0U, data, size), expected) << size;
            }
            if (crc32_wide_available()) {
                ASSERT_EQ(~crc32_wide(~0U, data, size), expected) << size;
            }
        }
    }
}

TEST(Crc32, PiecesAndCombination) {
    const std::vector<unsigned char> bytes = random_bytes(5000);
    const std::uint32_t whole = crc32(bytes.data(), 5000);
    for (const std::int64_t cut : {0, 1, 63, 64, 128, 1000, 4999, 5000}) {
        const std::uint32_t first = crc32(bytes.data(), cut);
        EXPECT_EQ(crc32(bytes.data() + cut, 5000 - cut, first), whole) << cut;
        const std::uint32_t second = crc32(bytes.data() + cut, 5000 - cut);
        EXPECT_EQ(crc32_combine(first, second, 5000 - cut), whole) << cut;
    }
}

TEST(Crc32, OfAFile) {
    const TemporaryDirectory folder;
    const std::vector<unsigned char> bytes = random_bytes((size_t{3} << 20) + 17);
    write_text(folder / "a", {bytes.begin(), bytes.end()});
    EXPECT_EQ(crc32_file(folder / "a"), crc32(bytes.data(), std::ssize(bytes)));
    write_text(folder / "empty", "");
    EXPECT_EQ(crc32_file(folder / "empty"), 0U);
    EXPECT_THROW((void)crc32_file(folder / "missing"), IoError);
    EXPECT_THROW((void)crc32_file(folder.path()), IoError);
}

TEST(Crc32, Bandwidth) {
    const std::vector<unsigned char> bytes = random_bytes(size_t{64} << 20);
    const auto size = static_cast<std::int64_t>(bytes.size());
    const auto rate = [&](auto&& function) {
        const auto start = std::chrono::steady_clock::now();
        const std::uint32_t result = function(~0U, bytes.data(), size);
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        EXPECT_EQ(~result, crc32(bytes.data(), size));
        return static_cast<double>(size) / elapsed.count() * 1e-9;
    };
    std::printf("portable %.1f GB/s\n", rate(crc32_portable));
    if (crc32_carryless_available()) std::printf("carry-less %.1f GB/s\n", rate(crc32_carryless));
    if (crc32_wide_available()) std::printf("wide carry-less %.1f GB/s\n", rate(crc32_wide));
}

}  // namespace
}  // namespace tempra::io
