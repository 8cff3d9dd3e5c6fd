#include "tempra/data/bloom_filter.h"

#include <gtest/gtest.h>

#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

std::string error_of_filter(const std::string& section) {
    return error_of<FormatError>([&] { (void)parse_bloom_filter(bytes_of(section), "f"); });
}

TEST(BloomFilter, HashesOfTheFormatsDescription) {
    EXPECT_EQ(hash_id(1, 0), 0x2FBC593564DB792EU);
    EXPECT_EQ(hash_id(1, 1), 0x85671091EDA75EB5U);
    EXPECT_EQ(hash_id(2, 0), 0x2086C65C91EEE243U);
    EXPECT_EQ(hash_id(2, 1), 0x1722DEE50E00C79CU);
    EXPECT_EQ(hash_id(3, 0), 0x4D922029C1F42E7DU);
    EXPECT_EQ(hash_id(3, 1), 0x77A59498A006C051U);
}

TEST(BloomFilter, Sizes) {
    const auto expect = [](std::uint64_t count, int probes, std::int64_t bytes) {
        const BloomFilterSize size = bloom_filter_size(count, "f");
        EXPECT_EQ(size.probes, probes) << count;
        EXPECT_EQ(size.bytes, bytes) << count;
    };
    expect(1, 6, 2);
    expect(3, 6, 4);
    expect(7, 6, 9);
    expect(1'000'000, 6, 1'198'133);
    EXPECT_EQ(error_of<FormatError>([] { (void)bloom_filter_size(4294967295, "f"); }),
              "f: PayloadTooLarge: a bloom filter of 4294967295 ids needs 5145939032 bytes, at "
              "most 4294967295 fit");
}

TEST(BloomFilter, WholeSectionOfTheFormatsDescription) {
    std::vector<std::byte> section = make_bloom_filter(bloom_filter_size(3, "f"));
    for (const std::uint64_t id : {1, 2, 3}) insert_id(section, id);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(section.data()), section.size()),
              std::string("\x06\x04\0\0\0\x0E\xE0\x8D\xA9", 9));
    const BloomFilter filter = parse_bloom_filter(section, "f");
    for (const std::uint64_t id : {1, 2, 3}) EXPECT_TRUE(filter.may_contain(id));
}

TEST(BloomFilter, FindsEveryIdAndFewOthers) {
    constexpr std::uint64_t kCount = 20'000;
    std::vector<std::byte> section = make_bloom_filter(bloom_filter_size(kCount, "f"));
    for (std::uint64_t i = 0; i < kCount; ++i) insert_id(section, ~(i * 977));
    const BloomFilter filter = parse_bloom_filter(section, "f");
    int found = 0;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        EXPECT_TRUE(filter.may_contain(~(i * 977)));
        found += filter.may_contain(i) ? 1 : 0;
    }
    EXPECT_LT(found, 300);  // 200 are to be expected
}

TEST(BloomFilter, Errors) {
    const std::string good("\x06\x04\0\0\0\x0E\xE0\x8D\xA9", 9);
    EXPECT_EQ(error_of_filter(good.substr(0, 4)),
              "f: InvalidBloomFilter: 4 bytes, at least 5 needed");
    EXPECT_EQ(error_of_filter(good.substr(0, 8)),
              "f: InvalidBloomFilter: says 4 bytes of bits, has 3");
    EXPECT_EQ(error_of_filter(good + "x"), "f: InvalidBloomFilter: says 4 bytes of bits, has 5");
    EXPECT_EQ(error_of_filter(std::string("\x06\0\0\0\0", 5)),
              "f: InvalidBloomFilter: says 0 bytes of bits, has 0");
    for (const int probes : {0, 17, 255}) {
        std::string bad = good;
        bad[0] = static_cast<char>(probes);
        EXPECT_EQ(error_of_filter(bad),
                  format("f: InvalidBloomFilter: {} probes, 1 to 16 are possible", probes));
    }
}

}  // namespace
}  // namespace tempra::data
