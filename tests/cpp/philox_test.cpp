#include "random/philox.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>

namespace tempra {
namespace {

struct KnownAnswer {
    PhiloxBlock counter;
    std::uint32_t key0, key1;
    PhiloxBlock expected;
};

// The philox4x32 lines with 10 rounds of Random123's known-answer file.
constexpr KnownAnswer kKnownAnswers[] = {
    {{{0, 0, 0, 0}}, 0, 0, {{0x6627E8D5U, 0xE169C58DU, 0xBC57AC4CU, 0x9B00DBD8U}}},
    {{{0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU}},
     0xFFFFFFFFU,
     0xFFFFFFFFU,
     {{0x408F276DU, 0x41C83B0EU, 0xA20BC7C6U, 0x6D5451FDU}}},
    {{{0x243F6A88U, 0x85A308D3U, 0x13198A2EU, 0x03707344U}},
     0xA4093822U,
     0x299F31D0U,
     {{0xD16CFE09U, 0x94FDCCEBU, 0x5001E420U, 0x24126EA1U}}},
};

TEST(Philox, MatchesPublishedKnownAnswers) {
    for (const KnownAnswer& known : kKnownAnswers) {
        const PhiloxBlock result = philox4x32_10(known.counter, known.key0, known.key1);
        for (int i = 0; i < 4; ++i) EXPECT_EQ(result.words[i], known.expected.words[i]);
    }
}

TEST(Philox, IsUsableAtCompileTime) {
    static_assert(philox4x32_10({{0, 0, 0, 0}}, 0, 0).words[0] == 0x6627E8D5U);
}

TEST(Philox, PutsSeedInTheKeyAndPositionInTheCounter) {
    const KnownAnswer& known = kKnownAnswers[2];
    const PhiloxBlock result =
        philox_block(0x299F31D0A4093822U, 0x03707344U, 0x13198A2EU, 0x85A308D3U, 0x243F6A88U);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(result.words[i], known.expected.words[i]);
}

TEST(Philox, EveryPartOfThePositionChangesTheBits) {
    std::set<std::uint32_t> seen;
    seen.insert(philox_block(1, 0, 0, 0, 0).words[0]);
    seen.insert(philox_block(std::uint64_t{1} << 32, 0, 0, 0, 0).words[0]);
    seen.insert(philox_block(1, 1, 0, 0, 0).words[0]);
    seen.insert(philox_block(1, 0, 1, 0, 0).words[0]);
    seen.insert(philox_block(1, 0, 0, 1, 0).words[0]);
    seen.insert(philox_block(1, 0, 0, 0, 1).words[0]);
    EXPECT_EQ(seen.size(), 6U);
}

TEST(Philox, UniformStaysBelowOne) {
    EXPECT_EQ(philox_uniform(0), 0.0F);
    EXPECT_LT(philox_uniform(0xFFFFFFFFU), 1.0F);
    EXPECT_EQ(philox_uniform(0, 0), 0.0);
    EXPECT_LT(philox_uniform(0xFFFFFFFFU, 0xFFFFFFFFU), 1.0);
}

TEST(Philox, DropThresholdFollowsTheProbability) {
    EXPECT_EQ(philox_drop_threshold(0.0), 0U);
    EXPECT_EQ(philox_drop_threshold(0.5), 0x80000000U);
    EXPECT_EQ(philox_drop_threshold(1.0), 0xFFFFFFFFU);
    const std::uint32_t threshold = philox_drop_threshold(0.1);
    int dropped = 0;
    constexpr int kBlocks = 25000;
    for (std::uint32_t block = 0; block < kBlocks; ++block) {
        const PhiloxBlock bits = philox_block(7, 3, 2, 1, block);
        for (const std::uint32_t word : bits.words) dropped += word < threshold ? 1 : 0;
    }
    EXPECT_NEAR(dropped / (4.0 * kBlocks), 0.1, 0.005);  // five standard deviations
}

}  // namespace
}  // namespace tempra
