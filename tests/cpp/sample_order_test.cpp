#include "tempra/data/sample_order.h"

#include <gtest/gtest.h>

#include <vector>

#include "tempra/error.h"

namespace tempra::data {
namespace {

TEST(SampleOrderTest, EverySampleOnceAndBack) {
    for (const std::int64_t count : {1, 2, 3, 5, 16, 17, 1000, 4097}) {
        for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
            const SampleOrder order(count, 7, epoch);
            std::vector<int> seen(static_cast<size_t>(count), 0);
            for (std::int64_t i = 0; i < count; ++i) {
                const std::int64_t sample = order(i);
                ASSERT_TRUE(sample >= 0 && sample < count);
                ++seen[static_cast<size_t>(sample)];
                EXPECT_EQ(order.inverse(sample), i);
            }
            for (const int times : seen) EXPECT_EQ(times, 1);
        }
    }
}

// The values that tests/python/test_data_order.py pins too: a resumed run reads what the
// interrupted one would have read, also after an upgrade.
TEST(SampleOrderTest, ValuesArePinned) {
    const SampleOrder small(10, 1337, 0);
    const std::vector<std::int64_t> expected = {0, 4, 2, 7, 8, 1, 6, 3, 5, 9};
    for (std::int64_t i = 0; i < 10; ++i) EXPECT_EQ(small(i), expected[static_cast<size_t>(i)]);
    const SampleOrder large(1'000'000'000, 7, 3);
    EXPECT_EQ(large(0), 192730566);
    EXPECT_EQ(large(1), 174764958);
    EXPECT_EQ(large(999'999'999), 43318230);
}

// A permutation of 10^12 samples is one small object.
TEST(SampleOrderTest, TrillionsOfSamples) {
    const SampleOrder order(1'000'000'000'000, 1, 2);
    static_assert(sizeof(order) <= 128);
    for (const std::int64_t i :
         {std::int64_t{0}, std::int64_t{123'456'789'012}, std::int64_t{999'999'999'999}}) {
        const std::int64_t sample = order(i);
        EXPECT_TRUE(sample >= 0 && sample < order.count());
        EXPECT_EQ(order.inverse(sample), i);
    }
}

TEST(SampleOrderTest, CountsOutOfRangeAreRefused) {
    EXPECT_THROW(SampleOrder(0, 0, 0), ConfigError);
    EXPECT_THROW(SampleOrder(-1, 0, 0), ConfigError);
    EXPECT_THROW(SampleOrder((std::int64_t{1} << 62) + 1, 0, 0), ConfigError);
}

}  // namespace
}  // namespace tempra::data
