#include "data/token_copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tempra/data/batch.h"
#include "tempra/data/batch_array.h"
#include "tempra/error.h"
#include "token_memory.h"

namespace tempra::data {
namespace {

std::vector<std::byte> file_of(const std::vector<std::uint32_t>& ids, DType dtype) {
    std::vector<std::byte> bytes;
    for (const std::uint32_t id : ids) {
        const auto* first = reinterpret_cast<const std::byte*>(&id);
        bytes.insert(bytes.end(), first, first + size_of(dtype));
    }
    return bytes;
}

class TokenCopyTest : public testing::TestWithParam<DType> {};

TEST_P(TokenCopyTest, CopiesEveryLengthAndNothingBeyond) {
    constexpr std::int32_t kLargest = 50'000, kGuard = -7;
    for (std::int64_t count = 1; count < 100; ++count) {
        std::vector<std::uint32_t> ids;
        for (std::int64_t i = 0; i <= count; ++i) {
            ids.push_back(static_cast<std::uint32_t>((i * 7919 + count) % (kLargest + 1)));
        }
        const auto bytes = file_of(ids, GetParam());
        const auto size = static_cast<size_t>(count);
        std::vector<std::int32_t> tokens(size + 1, kGuard), labels = tokens, alone = tokens;
        EXPECT_GE(copy_tokens_and_labels(bytes.data(), GetParam(), count, kLargest, tokens.data(),
                                         labels.data()),
                  0);
        EXPECT_GE(copy_tokens(bytes.data(), GetParam(), count, kLargest, alone.data()), 0);
        for (size_t i = 0; i < size; ++i) {
            ASSERT_EQ(tokens[i], static_cast<std::int32_t>(ids[i]));
            ASSERT_EQ(labels[i], static_cast<std::int32_t>(ids[i + 1]));
        }
        EXPECT_EQ(tokens[size], kGuard);
        EXPECT_EQ(labels[size], kGuard);
        tokens[size] = kGuard;
        EXPECT_EQ(alone, tokens);
    }
}

TEST_P(TokenCopyTest, AnIdOutsideIsSeenWhereverItIs) {
    constexpr std::int64_t kCount = 37;
    for (std::int64_t place = 0; place <= kCount; ++place) {
        for (const std::uint32_t id : {51U, 0xFFFFU, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
            std::vector<std::uint32_t> ids(kCount + 2, 50);
            ids[static_cast<size_t>(place)] = id;
            const auto bytes = file_of(ids, GetParam());
            if (GetParam() == DType::u16 && (id & 0xFFFFU) == 0) continue;
            std::vector<std::int32_t> tokens(kCount), labels(kCount);
            EXPECT_LT(copy_tokens_and_labels(bytes.data(), GetParam(), kCount, 50, tokens.data(),
                                             labels.data()),
                      0)
                << place << " " << id;
            EXPECT_EQ(copy_tokens(bytes.data(), GetParam(), kCount, 50, tokens.data()) < 0,
                      place < kCount);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Types, TokenCopyTest, testing::Values(DType::u32, DType::u16),
                         [](const auto& info) { return info.param == DType::u16 ? "u16" : "u32"; });

TEST(TokenStreamPairsTest, SuccessorsComeFromTheNextFileToo) {
    const TokenStream stream({shard_of({{1, 2, 3}, {0, 3}, {}}), shard_of({{4}, {0, 1}, {}}),
                              shard_of({{5, 6, 99}, {0, 3}, {}})},
                             50);
    for (std::int64_t begin = 0; begin < 5; ++begin) {
        for (std::int64_t count = 0; begin + count < 6; ++count) {
            std::vector<std::int32_t> tokens(static_cast<size_t>(count)), labels = tokens;
            stream.read_pairs(begin, tokens, labels.data());
            for (std::int64_t i = 0; i < count; ++i) {
                EXPECT_EQ(tokens[static_cast<size_t>(i)], begin + i + 1);
                EXPECT_EQ(labels[static_cast<size_t>(i)], begin + i + 2);
            }
        }
    }
    std::vector<std::int32_t> tokens(2), labels(2);
    try {
        stream.read_pairs(4, tokens, labels.data());
        FAIL();
    } catch (const FormatError& error) {
        EXPECT_STREQ(error.what(),
                     "memory: token 99 at position 2 is outside the vocabulary of 50 tokens");
    }
}

TEST(BatchArrayTest, KeepsItsContentWhenItGrowsAndItsMemoryWhenItShrinks) {
    BatchArray array;
    EXPECT_TRUE(array.empty());
    array.resize(10);
    for (int i = 0; i < 10; ++i) array.data()[i] = i;
    for (const size_t size : {size_t{1000}, size_t{1} << 20, size_t{3} << 20}) {
        array.resize(size);
        EXPECT_EQ(array.size(), size);
        EXPECT_EQ(array[9], 9);
        array.data()[size - 1] = 5;
    }
    const std::int32_t* memory = array.data();
    array.resize(10);
    EXPECT_EQ(array, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    array.resize(std::size_t{3} << 20);
    EXPECT_EQ(array.data(), memory);
    EXPECT_EQ(array[array.size() - 1], 5);
}

}  // namespace
}  // namespace tempra::data
