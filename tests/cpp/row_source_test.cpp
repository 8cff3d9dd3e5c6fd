#include "tempra/data/row_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "temporary_directory.h"
#include "tempra/data/sample_order.h"
#include "tempra/data/token_bin.h"
#include "tempra/error.h"
#include "token_memory.h"

namespace tempra::data {
namespace {

Batch read_rows(RowSource& source, std::int64_t first, std::int64_t count) {
    Batch batch;
    BatchWriter writer(batch, count * source.row_tokens());
    for (std::int64_t row = first; row < first + count; ++row) source.append(row, writer);
    writer.finish();
    return batch;
}

std::vector<std::int64_t> varied_lengths(std::int64_t count) {
    std::vector<std::int64_t> lengths;
    for (std::int64_t i = 0; i < count; ++i) {
        lengths.push_back(static_cast<std::int64_t>(mix(static_cast<std::uint64_t>(i)) % 40));
    }
    return lengths;
}

TEST(WindowRowsTest, EachEpochReadsEveryBlockOnce) {
    const auto stream = counted_stream(varied_lengths(50));
    WindowOptions options;
    options.block = 9;
    options.seed = 5;
    const auto rows = make_window_rows(stream, options);
    const std::int64_t blocks = (stream->size() - 1) / 9;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        const Batch batch = read_rows(*rows, epoch * blocks, blocks);
        std::set<std::int32_t> starts;
        for (size_t i = 0; i < batch.tokens.size(); ++i) {
            EXPECT_EQ(batch.labels[i], batch.tokens[i] + 1);
            EXPECT_EQ(batch.positions[i], static_cast<std::int32_t>(i % 9));
            if (i % 9 == 0) starts.insert(batch.tokens[i]);
        }
        EXPECT_EQ(static_cast<std::int64_t>(starts.size()), blocks);
        const SampleOrder order(blocks, 5, static_cast<std::uint64_t>(epoch));
        for (std::int64_t k = 0; k < blocks; ++k) {
            EXPECT_EQ(batch.tokens[static_cast<size_t>(9 * k)] - batch.tokens[0],
                      9 * (order(k) - order(0)));
        }
        EXPECT_EQ((*starts.rbegin() - *starts.begin()) % 9, 0);
        EXPECT_EQ(batch.valid_tokens, blocks * 9);
    }
    EXPECT_DOUBLE_EQ(rows->epochs(2 * blocks), 2.0);
}

TEST(WindowRowsTest, BlocksInSequenceFollowOneAnother) {
    const auto stream = counted_stream(varied_lengths(50));
    WindowOptions options;
    options.block = 9;
    options.seed = 5;
    options.sequential = true;
    const auto rows = make_window_rows(stream, options);
    const std::int64_t blocks = (stream->size() - 1) / 9;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        const Batch batch = read_rows(*rows, epoch * blocks, blocks);
        for (size_t i = 1; i < batch.tokens.size(); ++i) {
            EXPECT_EQ(batch.tokens[i], batch.tokens[0] + static_cast<std::int32_t>(i));
        }
    }
    options.random = true;
    EXPECT_THROW((void)make_window_rows(stream, options), ConfigError);
}

TEST(WindowRowsTest, TextWithoutAWindowIsRefused) {
    WindowOptions options;
    options.block = 10;
    EXPECT_THROW((void)make_window_rows(counted_stream({10}), options), ConfigError);
    options.block = 0;
    EXPECT_THROW((void)make_window_rows(counted_stream({10}), options), ConfigError);
}

struct PackedCase {
    PackingStrategy strategy;
    std::int64_t part_documents;
};

class PackedRowsTest : public ::testing::TestWithParam<PackedCase> {};

// Every token once per epoch; each but the first of a document exactly once as a label, and never
// one of another document.
TEST_P(PackedRowsTest, EveryTokenIsReadAndLearnedOnceInEachEpoch) {
    const auto lengths = varied_lengths(300);
    const auto stream = counted_stream(lengths);
    PackedRowOptions options;
    options.packing.capacity = 32;  // some documents are longer
    options.packing.strategy = GetParam().strategy;
    options.packing.window = 4;
    options.packing.seed = 3;
    options.part_documents = GetParam().part_documents;
    const auto rows = make_packed_rows(stream, options);

    std::set<std::int32_t> firsts;
    for (std::int64_t document = 0; document < stream->documents(); ++document) {
        if (lengths[static_cast<size_t>(document)] > 0) {
            firsts.insert(static_cast<std::int32_t>(stream->document(document).begin));
        }
    }
    std::int64_t row = 0;
    std::set<std::vector<std::int32_t>> orders;
    for (int epoch = 0; epoch < 3; ++epoch) {
        std::vector<int> read(static_cast<size_t>(stream->size()), 0), learned(read);
        std::vector<std::int32_t> order;
        while (static_cast<std::int64_t>(order.size()) < stream->size()) {
            const Batch batch = read_rows(*rows, row++, 1);
            EXPECT_LE(batch.tokens.size(), 32U);
            EXPECT_FALSE(batch.tokens.empty());
            order.insert(order.end(), batch.tokens.begin(), batch.tokens.end());
            std::int64_t valid = 0;
            for (size_t i = 0; i < batch.tokens.size(); ++i) {
                ++read[static_cast<size_t>(batch.tokens[i])];
                if (batch.labels[i] == kIgnoredLabel) {
                    const std::int32_t next = batch.tokens[i] + 1;
                    EXPECT_TRUE(next == stream->size() || firsts.count(next) == 1);
                    continue;
                }
                ++valid;
                EXPECT_EQ(batch.labels[i], batch.tokens[i] + 1);
                EXPECT_EQ(firsts.count(batch.labels[i]), 0U);
                ++learned[static_cast<size_t>(batch.labels[i])];
            }
            EXPECT_EQ(valid, batch.valid_tokens);
            for (size_t s = 0; s + 1 < batch.offsets.size(); ++s) {
                for (auto i = batch.offsets[s]; i < batch.offsets[s + 1]; ++i) {
                    EXPECT_EQ(batch.positions[static_cast<size_t>(i)], i - batch.offsets[s]);
                    if (i > batch.offsets[s]) {
                        EXPECT_EQ(batch.tokens[static_cast<size_t>(i)],
                                  batch.tokens[static_cast<size_t>(i) - 1] + 1);
                        EXPECT_EQ(firsts.count(batch.tokens[static_cast<size_t>(i)]), 0U);
                    }
                }
            }
        }
        for (const int times : read) EXPECT_EQ(times, 1);
        for (size_t token = 0; token < learned.size(); ++token) {
            EXPECT_EQ(learned[token], firsts.count(static_cast<std::int32_t>(token)) == 1 ? 0 : 1);
        }
        EXPECT_DOUBLE_EQ(rows->epochs(row), epoch + 1.0);
        EXPECT_EQ(std::floor(rows->epochs(row - 1)), epoch);
        orders.insert(order);
    }
    EXPECT_EQ(orders.size(), 3U);
}

TEST_P(PackedRowsTest, RowsDoNotDependOnWhatWasReadBefore) {
    const auto stream = counted_stream(varied_lengths(200));
    PackedRowOptions options;
    options.packing.capacity = 40;
    options.packing.strategy = GetParam().strategy;
    options.part_documents = GetParam().part_documents;
    const auto rows = make_packed_rows(stream, options);
    std::vector<std::vector<std::int32_t>> forward;
    for (std::int64_t row = 0; row < 400; ++row) {
        const Batch batch = read_rows(*rows, row, 1);
        forward.emplace_back(batch.tokens.begin(), batch.tokens.end());
    }
    const auto other = rows->fresh();
    for (std::int64_t row = 399; row >= 0; row -= 7) {
        EXPECT_EQ(read_rows(*other, row, 1).tokens, forward[static_cast<size_t>(row)]);
    }
}

INSTANTIATE_TEST_SUITE_P(Strategies, PackedRowsTest,
                         ::testing::Values(PackedCase{PackingStrategy::best_fit, 1000},
                                           PackedCase{PackingStrategy::best_fit, 64},
                                           PackedCase{PackingStrategy::streaming, 1000},
                                           PackedCase{PackingStrategy::streaming, 64},
                                           PackedCase{PackingStrategy::concat, 1000},
                                           PackedCase{PackingStrategy::concat, 64},
                                           PackedCase{PackingStrategy::none, 1000},
                                           PackedCase{PackingStrategy::none, 64}));

// Tokens count up through the stream, so an epoch's tokens tell which documents came when.
TEST(OrderedRowsTest, DocumentsComeInOrderWhateverThePackingAndTheParts) {
    const auto lengths = varied_lengths(300);
    const auto stream = counted_stream(lengths);
    for (const auto strategy :
         {PackingStrategy::streaming, PackingStrategy::concat, PackingStrategy::none}) {
        for (const bool shortest_first : {false, true}) {
            std::vector<std::int64_t> order(lengths.size());
            for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
            const auto key = [&](std::int64_t document) {
                return std::min<std::int64_t>(lengths[static_cast<size_t>(document)], 33);
            };
            if (shortest_first) {
                std::stable_sort(order.begin(), order.end(),
                                 [&](auto one, auto other) { return key(one) < key(other); });
            }
            std::vector<std::int32_t> expected;
            for (const std::int64_t document : order) {
                const auto [begin, length] = stream->document(document);
                for (std::int64_t i = 0; i < length; ++i) {
                    expected.push_back(static_cast<std::int32_t>(begin + i));
                }
            }
            for (const std::int64_t part_documents : {std::int64_t{1} << 20, std::int64_t{7}}) {
                OrderedRowOptions options;
                options.packing.capacity = 32;
                options.packing.strategy = strategy;
                options.packing.window = 1;
                options.shortest_first = shortest_first;
                options.part_documents = part_documents;
                const auto rows = make_ordered_rows(stream, options);
                std::int64_t row = 0;
                for (int epoch = 0; epoch < 2; ++epoch) {
                    std::vector<std::int32_t> read;
                    while (read.size() < expected.size()) {
                        const Batch batch = read_rows(*rows, row++, 1);
                        EXPECT_LE(batch.tokens.size(), 32U);
                        read.insert(read.end(), batch.tokens.begin(), batch.tokens.end());
                    }
                    EXPECT_EQ(read, expected);
                    EXPECT_DOUBLE_EQ(rows->epochs(row), epoch + 1.0);
                }
                const Batch one = read_rows(*rows->fresh(), 5, 3);
                EXPECT_EQ(one.tokens, read_rows(*rows, 5, 3).tokens);
            }
        }
    }
}

TEST(OrderedRowsTest, WhatHasNoOrderIsRefused) {
    OrderedRowOptions options;
    options.packing.capacity = 8;
    EXPECT_THROW((void)make_ordered_rows(counted_stream({3, 4}), options), ConfigError);
    options.packing.strategy = PackingStrategy::none;
    options.packing.longest_first = true;
    EXPECT_THROW((void)make_ordered_rows(counted_stream({3, 4}), options), ConfigError);
    options.packing.longest_first = false;
    options.packing.overlong = OverlongPolicy::reject;
    EXPECT_THROW((void)make_ordered_rows(counted_stream({9, 10}), options), ConfigError);
    options.part_documents = 0;
    EXPECT_THROW((void)make_ordered_rows(counted_stream({3}), options), ConfigError);
}

TEST(PackedRowDetailsTest, PaddingFillsRowsAndIsNotLearned) {
    PackedRowOptions options;
    options.packing.capacity = 10;
    options.packing.strategy = PackingStrategy::none;
    options.pad_token = 99;
    const auto rows = make_packed_rows(counted_stream({3, 10, 4}), options);
    const Batch batch = read_rows(*rows, 0, 3);
    EXPECT_EQ(batch.tokens.size(), 30U);
    EXPECT_EQ(std::count(batch.tokens.begin(), batch.tokens.end(), 99), 13);
    EXPECT_EQ(batch.valid_tokens, 2 + 9 + 3);
    EXPECT_EQ(batch.offsets.size(), 1U + 3 + 2);
}

TEST(PackedRowDetailsTest, TruncatedDocumentsEndUnlearned) {
    PackedRowOptions options;
    options.packing.capacity = 4;
    options.packing.overlong = OverlongPolicy::truncate;
    const auto rows = make_packed_rows(counted_stream({9}), options);
    const Batch batch = read_rows(*rows, 0, 1);
    EXPECT_EQ(batch.tokens, (std::vector<std::int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{1, 2, 3, kIgnoredLabel}));
}

TEST(PackedRowDetailsTest, NothingToPackIsRefused) {
    PackedRowOptions options;
    options.packing.capacity = 4;
    EXPECT_THROW((void)make_packed_rows(counted_stream({0, 0}), options), ConfigError);
    options.packing.overlong = OverlongPolicy::reject;
    options.packing.strategy = PackingStrategy::streaming;
    EXPECT_THROW((void)make_packed_rows(counted_stream({5}), options), ConfigError);
    options.part_documents = 0;
    EXPECT_THROW((void)make_packed_rows(counted_stream({2}), options), ConfigError);
}

TEST(TokenStreamTest, MaskedTokensAreReadAndNotLearned) {
    TokenMemory memory;
    memory.tokens = {10, 11, 12, 13, 14};
    memory.bounds = {0, 3, 5};
    memory.mask = {1, 0, 1, 1, 0};
    const auto stream = std::make_shared<TokenStream>(
        std::vector<TokenShard>{shard_of({{7, 8}, {0, 2}, {}}), shard_of(memory)}, 100);
    Batch batch;
    BatchWriter writer(batch, 20);
    writer.add_sequence(*stream, 0, 2, false);
    writer.add_sequence(*stream, 2, 3, false);
    writer.add_sequence(*stream, 5, 2, false);
    writer.add_sequence(*stream, 0, 6, true);  // a window over all shards
    writer.finish();
    const std::int32_t none = kIgnoredLabel;
    EXPECT_EQ(batch.labels, (std::vector<std::int32_t>{8, none, none, 12, none, none, none,  //
                                                       8, 10, none, 12, 13, none}));
    EXPECT_EQ(batch.valid_tokens, 2 + 4);
}

TEST(TokenStreamTest, IdsOutsideTheVocabularyAreNamed) {
    for (const std::uint32_t id : {50U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
        const TokenStream stream(
            {shard_of({{1, 2}, {0, 2}, {}}), shard_of({{3, 49, id}, {0, 3}, {}})}, 50);
        std::vector<std::int32_t> out(4);
        stream.read(0, out);
        EXPECT_EQ(out, (std::vector<std::int32_t>{1, 2, 3, 49}));
        out.resize(5);
        try {
            stream.read(0, out);
            FAIL();
        } catch (const FormatError& error) {
            EXPECT_EQ(std::string(error.what()),
                      "memory: token " + std::to_string(id) +
                          " at position 2 is outside the vocabulary of 50 tokens");
        }
    }
}

TEST(TokenStreamTest, DamagedBoundariesAreRefused) {
    EXPECT_THROW(TokenStream({shard_of({{1, 2}, {0, 3}, {}})}, 9), FormatError);
    EXPECT_THROW(TokenStream({shard_of({{1, 2}, {1, 2}, {}})}, 9), FormatError);
    EXPECT_THROW(TokenStream({shard_of({{1, 2}, {0, 2, 1, 2}, {}})}, 9), FormatError);
    EXPECT_THROW(TokenStream({}, 9), ConfigError);
    EXPECT_THROW(TokenStream({shard_of({{1, 2}, {0, 2}, {}})}, 0), ConfigError);
}

TEST(TokenStreamTest, FilesAreMapped) {
    const TemporaryDirectory folder;
    TokenBinWriter writer(folder / "a.bin", DType::u16);
    writer.append(std::vector<std::uint32_t>{5, 6, 65535});
    writer.commit();
    const std::uint64_t bounds[] = {0, 1, 3};
    io::write_file(folder / "a.bounds", bounds, sizeof bounds);
    io::write_file(folder / "a.mask", "\0\1\1", 3);
    const TokenStream stream(
        {open_token_shard(folder / "a.bin", DType::u16, folder / "a.bounds", folder / "a.mask")},
        65536);
    EXPECT_EQ(stream.documents(), 2);
    std::vector<std::int64_t> lengths(2);
    stream.document_lengths(0, lengths);
    EXPECT_EQ(lengths, (std::vector<std::int64_t>{1, 2}));
    std::vector<std::int32_t> tokens(3);
    stream.read(0, tokens);
    EXPECT_EQ(tokens, (std::vector<std::int32_t>{5, 6, 65535}));
    EXPECT_EQ(stream.mask_labels(0, tokens), 2);
    EXPECT_EQ(tokens[0], kIgnoredLabel);
    io::write_file(folder / "a.mask", "\0\1", 2);
    EXPECT_THROW((void)open_token_shard(folder / "a.bin", DType::u16, "", folder / "a.mask"),
                 FormatError);
    io::write_file(folder / "a.bounds", bounds, 7);
    EXPECT_THROW((void)open_token_shard(folder / "a.bin", DType::u16, folder / "a.bounds"),
                 FormatError);
}

TEST(MixedRowsTest, QuotasHoldInEveryCycleAndSourcesAreReadInOrder) {
    WindowOptions options;
    options.block = 1;
    options.random = false;
    const auto one =
        std::shared_ptr<const RowSource>(make_window_rows(counted_stream({100}), options));
    PackedRowOptions packed;
    packed.packing.capacity = 1;
    TokenMemory memory;
    for (std::uint32_t i = 0; i < 60; ++i) memory.tokens.push_back(1000 + i);
    memory.bounds.push_back(60);
    const auto stream =
        std::make_shared<TokenStream>(std::vector<TokenShard>{shard_of(memory)}, 5000);
    const auto two = std::shared_ptr<const RowSource>(make_packed_rows(stream, packed));
    const auto mixed = make_mixed_rows({one, two}, {5, 3}, 11);
    std::vector<std::int32_t> from_one, from_two;
    std::set<std::string> patterns;
    for (std::int64_t cycle = 0; cycle < 30; ++cycle) {
        const Batch batch = read_rows(*mixed, cycle * 8, 8);
        std::string pattern;
        for (const std::int32_t token : batch.tokens) {
            (token < 1000 ? from_one : from_two).push_back(token);
            pattern += token < 1000 ? '1' : '2';
        }
        EXPECT_EQ(std::count(pattern.begin(), pattern.end(), '1'), 5);
        patterns.insert(pattern);
    }
    EXPECT_GT(patterns.size(), 15U);
    EXPECT_EQ(from_one, read_rows(*one->fresh(), 0, 150).tokens);
    EXPECT_EQ(from_two, read_rows(*two->fresh(), 0, 90).tokens);
    EXPECT_EQ(read_rows(*mixed->fresh(), 100, 9).tokens, read_rows(*mixed, 100, 9).tokens);
    EXPECT_THROW((void)make_mixed_rows({one}, {0}, 1), ConfigError);
    EXPECT_THROW((void)make_mixed_rows({one}, {1, 2}, 1), ConfigError);
    EXPECT_THROW((void)make_mixed_rows({}, {}, 1), ConfigError);
    EXPECT_THROW((void)make_mixed_rows({one, one}, {1 << 20, 1}, 1), ConfigError);
}

TEST(BatchWriterTest, ReusedBuffersGiveTheSameBatch) {
    const auto stream = counted_stream(varied_lengths(300));
    PackedRowOptions packed;
    packed.packing.capacity = 32;
    const auto rows = make_packed_rows(stream, packed);
    WindowOptions options;
    options.block = 16;
    const auto windows = make_window_rows(stream, options);
    Batch used;
    for (std::int64_t i = 0; i < 60; ++i) {
        RowSource& source = i % 4 == 3 ? *windows : *rows;
        BatchWriter writer(used, 3 * source.row_tokens());
        for (std::int64_t row = 3 * i; row < 3 * i + 3; ++row) source.append(row, writer);
        writer.finish();
        const Batch fresh = read_rows(source, 3 * i, 3);
        EXPECT_EQ(used.tokens, fresh.tokens);
        EXPECT_EQ(used.labels, fresh.labels);
        EXPECT_EQ(used.positions, fresh.positions);
        EXPECT_EQ(used.offsets, fresh.offsets);
        EXPECT_EQ(used.valid_tokens, fresh.valid_tokens);
    }
    EXPECT_THROW(BatchWriter(used, std::int64_t{1} << 31), ConfigError);
}

}  // namespace
}  // namespace tempra::data
