#include "tempra/data/sequence_packer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "tempra/error.h"

namespace tempra::data {
namespace {

using Lengths = std::vector<std::int64_t>;

Lengths random_lengths(std::int64_t count, std::int64_t largest, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<std::int64_t> pick(0, largest);
    Lengths lengths(static_cast<size_t>(count));
    for (auto& length : lengths) length = pick(random);
    return lengths;
}

// Every token of every document in exactly one place (but for those lost by policy), no row over
// capacity, no row empty.
void check_complete(const PackingPlan& plan, const Lengths& lengths,
                    const PackingOptions& options) {
    std::map<std::int64_t, std::vector<std::pair<std::int64_t, std::int64_t>>> parts;
    ASSERT_EQ(plan.row_offsets.front(), 0);
    ASSERT_EQ(plan.row_offsets.back(), static_cast<std::int64_t>(plan.pieces.size()));
    for (size_t row = 0; row + 1 < plan.row_offsets.size(); ++row) {
        std::int64_t used = 0;
        for (auto i = static_cast<size_t>(plan.row_offsets[row]);
             i < static_cast<size_t>(plan.row_offsets[row + 1]); ++i) {
            EXPECT_GT(plan.pieces[i].length, 0);
            used += plan.pieces[i].length;
            parts[plan.pieces[i].document].emplace_back(plan.begin(i), plan.pieces[i].length);
        }
        EXPECT_GT(used, 0);
        EXPECT_LE(used, options.capacity);
    }
    std::int64_t kept_tokens = 0, all_tokens = 0;
    for (size_t document = 0; document < lengths.size(); ++document) {
        std::int64_t kept = lengths[document];
        all_tokens += kept;
        if (kept > options.capacity && options.overlong == OverlongPolicy::truncate) {
            kept = options.capacity;
        }
        if (kept > options.capacity && options.overlong == OverlongPolicy::reject) kept = 0;
        auto& pieces = parts[static_cast<std::int64_t>(document)];
        std::sort(pieces.begin(), pieces.end());
        std::int64_t reached = 0;
        for (const auto& [begin, length] : pieces) {
            EXPECT_EQ(begin, reached);
            reached += length;
        }
        EXPECT_EQ(reached, kept);
        kept_tokens += kept;
    }
    EXPECT_EQ(plan.counts.tokens, kept_tokens);
    EXPECT_EQ(plan.counts.lost_tokens, all_tokens - kept_tokens);
    EXPECT_EQ(plan.counts.documents, static_cast<std::int64_t>(lengths.size()));
}

std::vector<std::uint32_t> documents_of(const PackingPlan& plan) {
    std::vector<std::uint32_t> documents;
    for (const PackedPiece& piece : plan.pieces) documents.push_back(piece.document);
    return documents;
}

// Best-fit decreasing as its definition says, in quadratic time.
std::int64_t plain_best_fit_rows(Lengths lengths, std::int64_t capacity) {
    std::sort(lengths.rbegin(), lengths.rend());
    std::vector<std::int64_t> free;
    for (const std::int64_t length : lengths) {
        if (length == 0) continue;
        std::int64_t* best = nullptr;
        for (auto& room : free) {
            if (room >= length && (best == nullptr || room < *best)) best = &room;
        }
        if (best == nullptr) best = &free.emplace_back(capacity);
        *best -= length;
    }
    return static_cast<std::int64_t>(free.size());
}

TEST(SequencePackerTest, EveryStrategyKeepsEveryToken) {
    for (const auto strategy : {PackingStrategy::best_fit, PackingStrategy::streaming,
                                PackingStrategy::concat, PackingStrategy::none}) {
        for (const auto policy :
             {OverlongPolicy::split, OverlongPolicy::truncate, OverlongPolicy::reject}) {
            for (const std::int64_t capacity : {1, 2, 7, 63, 64, 65, 200, 5000}) {
                PackingOptions options;
                options.capacity = capacity;
                options.strategy = strategy;
                options.overlong = policy;
                options.window = 5;
                const Lengths lengths = random_lengths(300, 150, static_cast<unsigned>(capacity));
                const PackingPlan plan = plan_packing(lengths, options);
                check_complete(plan, lengths, options);
                EXPECT_EQ(count_packed_rows(lengths, options), plan.rows());
            }
        }
    }
}

TEST(SequencePackerTest, BestFitIsBestFitDecreasing) {
    for (unsigned seed = 0; seed < 50; ++seed) {
        PackingOptions options;
        options.capacity = 40 + 30 * seed;
        options.seed = seed;
        const Lengths lengths = random_lengths(400, options.capacity, seed);
        const PackingPlan plan = plan_packing(lengths, options);
        EXPECT_EQ(plan.rows(), plain_best_fit_rows(lengths, options.capacity));
        EXPECT_EQ(count_packed_rows(lengths, options), plan.rows());
    }
}

TEST(SequencePackerTest, SeedAndEpochChangePartnersAndOrderAndNothingElse) {
    const Lengths lengths = random_lengths(500, 100, 1);
    PackingOptions options;
    options.capacity = 128;
    const auto strategies = {PackingStrategy::best_fit, PackingStrategy::streaming,
                             PackingStrategy::concat, PackingStrategy::none};
    for (const auto strategy : strategies) {
        options.strategy = strategy;
        std::set<std::vector<std::uint32_t>> orders;
        for (std::uint64_t seed = 0; seed < 3; ++seed) {
            for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
                options.seed = seed;
                options.epoch = epoch;
                const PackingPlan plan = plan_packing(lengths, options);
                EXPECT_EQ(documents_of(plan_packing(lengths, options)), documents_of(plan));
                orders.insert(documents_of(plan));
            }
        }
        EXPECT_EQ(orders.size(), 9U);
    }
}

TEST(SequencePackerTest, RowsOfEqualLengthsMixAllDocuments) {
    // Which two of 100 equal documents share a row is not decided by their numbers.
    const Lengths lengths(100, 5);
    PackingOptions options;
    options.capacity = 10;
    const PackingPlan plan = plan_packing(lengths, options);
    std::int64_t neighbours = 0;
    const auto documents = documents_of(plan);
    for (size_t i = 0; i < documents.size(); i += 2) {
        neighbours += documents[i] + 1 == documents[i + 1] || documents[i] == documents[i + 1] + 1;
    }
    EXPECT_LT(neighbours, 10);
}

TEST(SequencePackerTest, CountsSayWhatBecameOfLongDocuments) {
    PackingOptions options;
    options.capacity = 10;
    const Lengths lengths = {0, 3, 10, 11, 35};
    PackingPlan plan = plan_packing(lengths, options);
    EXPECT_EQ(plan.counts.empty, 1);
    EXPECT_EQ(plan.counts.overlong, 2);
    EXPECT_EQ(plan.counts.split, 2);
    EXPECT_EQ(plan.counts.lost_tokens, 0);
    EXPECT_EQ(plan.rows(), 6);
    EXPECT_DOUBLE_EQ(plan.fill(), 59.0 / 60.0);
    options.overlong = OverlongPolicy::truncate;
    plan = plan_packing(lengths, options);
    EXPECT_EQ(plan.counts.truncated, 2);
    EXPECT_EQ(plan.counts.lost_tokens, 26);
    EXPECT_EQ(plan.counts.split, 0);
    options.overlong = OverlongPolicy::reject;
    plan = plan_packing(lengths, options);
    EXPECT_EQ(plan.counts.rejected, 2);
    EXPECT_EQ(plan.counts.lost_tokens, 46);
    EXPECT_EQ(plan.rows(), 2);
}

TEST(SequencePackerTest, ConcatFillsEveryRowButTheLast) {
    PackingOptions options;
    options.capacity = 16;
    options.strategy = PackingStrategy::concat;
    const Lengths lengths = random_lengths(100, 40, 3);
    const PackingPlan plan = plan_packing(lengths, options);
    const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    EXPECT_EQ(plan.rows(), (total + 15) / 16);
    for (std::int64_t row = 0; row + 1 < plan.rows(); ++row) {
        std::int64_t used = 0;
        for (auto i = plan.row_offsets[static_cast<size_t>(row)];
             i < plan.row_offsets[static_cast<size_t>(row) + 1]; ++i) {
            used += plan.pieces[static_cast<size_t>(i)].length;
        }
        EXPECT_EQ(used, 16);
    }
}

TEST(SequencePackerTest, LongestFirstOrdersByLength) {
    PackingOptions options;
    options.capacity = 50;
    options.strategy = PackingStrategy::none;
    options.longest_first = true;
    const PackingPlan plan = plan_packing(random_lengths(100, 80, 4), options);
    EXPECT_TRUE(std::is_sorted(plan.pieces.begin(), plan.pieces.end(),
                               [](PackedPiece a, PackedPiece b) { return a.length > b.length; }));
    EXPECT_EQ(plan.rows(), static_cast<std::int64_t>(plan.pieces.size()));
}

TEST(SequencePackerTest, StreamingHoldsNoMoreRowsThanItsWindow) {
    PackingOptions options;
    options.capacity = 100;
    options.window = 3;
    StreamingPacker packer(options);
    std::vector<StreamingPacker::Row> closed;
    const Lengths lengths = random_lengths(1000, 60, 5);
    for (size_t i = 0; i < lengths.size(); ++i) {
        packer.push(static_cast<std::int64_t>(i), lengths[i], closed);
        EXPECT_LE(packer.open_rows(), 3);
    }
    packer.finish(closed);
    EXPECT_EQ(packer.open_rows(), 0);
    std::int64_t tokens = 0;
    for (const auto& row : closed) {
        for (const auto& piece : row) tokens += piece.length;
    }
    EXPECT_EQ(tokens, packer.counts().tokens);
    EXPECT_GT(static_cast<double>(tokens) / (100.0 * static_cast<double>(closed.size())), 0.85);
}

TEST(SequencePackerTest, NothingPacksIntoNoRows) {
    for (const auto strategy : {PackingStrategy::best_fit, PackingStrategy::streaming,
                                PackingStrategy::concat, PackingStrategy::none}) {
        PackingOptions options;
        options.capacity = 4;
        options.strategy = strategy;
        EXPECT_EQ(plan_packing({}, options).rows(), 0);
        const Lengths empty(3, 0);
        EXPECT_EQ(plan_packing(empty, options).rows(), 0);
        EXPECT_EQ(plan_packing(empty, options).counts.empty, 3);
    }
}

TEST(SequencePackerTest, BadInputIsRefusedByName) {
    PackingOptions options;
    EXPECT_THROW((void)plan_packing({}, options), ConfigError);
    options.capacity = 8;
    const Lengths negative = {3, -1};
    try {
        (void)plan_packing(negative, options);
        FAIL();
    } catch (const ShapeError& error) {
        EXPECT_STREQ(error.what(), "packing: document 1 has length -1, at least 0 needed");
    }
    options.window = 0;
    EXPECT_THROW((void)plan_packing({}, options), ConfigError);
    options.window = 1;
    options.longest_first = true;
    EXPECT_THROW((void)plan_packing({}, options), ConfigError);
    EXPECT_THROW((void)packing_strategy("bfd"), ConfigError);
    EXPECT_THROW((void)overlong_policy("cut"), ConfigError);
    EXPECT_EQ(packing_strategy("concat"), PackingStrategy::concat);
    EXPECT_EQ(overlong_policy("reject"), OverlongPolicy::reject);
}

}  // namespace
}  // namespace tempra::data
