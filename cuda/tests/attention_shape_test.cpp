// Who sees whom, and how the logits of a loss are cut: against the rules written out.
#include "attention_shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "loss_chunks.h"

namespace tempra::cuda {
namespace {

bool is_visible(const AttentionSequence& s, int query, int key) {
    const int last = s.causal ? query + s.shift : s.keys - 1;
    if (key > last || key >= s.keys) return false;
    return s.window == 0 || key > last - s.window;
}

TEST(AttentionShape, VisibilityIsTheRuleForEveryPair) {
    std::mt19937 engine(3);
    for (int round = 0; round < 400; ++round) {
        AttentionSequence s{};
        s.queries = static_cast<int>(engine() % 40);
        s.keys = static_cast<int>(engine() % 40);
        s.shift = s.keys - s.queries;
        s.window = engine() % 2 == 0 ? 0 : 1 + static_cast<int>(engine() % 30);
        s.causal = engine() % 2 == 0;
        for (int query = 0; query < s.queries; ++query) {
            for (int key = 0; key < s.keys; ++key) {
                ASSERT_EQ(s.sees(query, key), is_visible(s, query, key))
                    << s.queries << " " << s.keys << " " << s.window << " " << query << " " << key;
            }
        }
    }
}

TEST(AttentionShape, RangesOfQueriesHoldAllThatSeeAKey) {
    std::mt19937 engine(4);
    for (int round = 0; round < 400; ++round) {
        AttentionSequence s{};
        s.queries = 1 + static_cast<int>(engine() % 40);
        s.keys = 1 + static_cast<int>(engine() % 40);
        s.shift = s.keys - s.queries;
        s.window = engine() % 2 == 0 ? 0 : 1 + static_cast<int>(engine() % 30);
        s.causal = engine() % 2 == 0;
        const int k0 = static_cast<int>(engine() % static_cast<unsigned>(s.keys));
        const int k1 = std::min(s.keys, k0 + 1 + static_cast<int>(engine() % 20));
        for (int query = 0; query < s.queries; ++query) {
            bool any = false, all = true;
            for (int key = k0; key < k1; ++key) {
                any = any || is_visible(s, query, key);
                all = all && is_visible(s, query, key);
            }
            if (any) {
                EXPECT_GE(query, s.first_query(k0));
                EXPECT_LT(query, s.end_query(k1));
            }
            EXPECT_EQ(s.sees_all(query, query + 1, k0, k1), all);
        }
        EXPECT_FALSE(s.sees_all(0, s.queries + 1, k0, k1)) << "of queries that do not exist";
        EXPECT_FALSE(s.sees_all(0, 1, k0, s.keys + 1)) << "of keys that do not exist";
    }
}

TEST(AttentionShape, TilesFitSharedMemory) {
    EXPECT_LE(2 * (attention_tile_elements(64, 128) * 5), 227 * 1024);
    EXPECT_EQ(attention_tile_elements(64, 64) * 2 % 16, 0) << "tiles follow each other aligned";
}

TEST(DecodeShape, CutsKeysIntoChunksThatCoverThem) {
    for (const std::int64_t sequences : {1, 8, 300}) {
        for (const std::int64_t keys : {0, 1, 256, 257, 5000, 131072}) {
            const DecodeShape shape = decode_shape(sequences, 8, 4, 2, keys);
            EXPECT_EQ(shape.units, sequences * 8);
            EXPECT_EQ(shape.rows, 8);
            EXPECT_EQ(shape.chunk % 64, 0) << "a kernel's stretch of keys stays within a chunk";
            EXPECT_GE(shape.splits * shape.chunk, keys);
            EXPECT_LT((shape.splits - 1) * shape.chunk, std::max<std::int64_t>(keys, 1));
            EXPECT_TRUE(shape.chunk == kDecodeChunk || shape.units * shape.splits >= kDecodeBlocks)
                << "chunks grew although a device was not full";
        }
    }
    EXPECT_EQ(decode_shape(1, 8, 1, 1, 4096).splits, 16);
    EXPECT_EQ(decode_shape(256, 8, 1, 1, 4096).chunk, 4096);
}

TEST(LossChunks, CoverAllTokensInFewEqualParts) {
    for (const std::int64_t tokens : {1, 63, 64, 1000, 65536}) {
        for (const std::int64_t vocabulary : {7, 50304, 300000}) {
            const LossChunks chunks = loss_chunks(tokens, vocabulary, 0);
            EXPECT_GE(chunks.stride, vocabulary);
            EXPECT_EQ(chunks.stride % 8, 0);
            EXPECT_GE(chunks.rows, 1);
            EXPECT_LE(chunks.rows, tokens);
            const std::int64_t bytes = chunks.rows * chunks.stride * 4;
            EXPECT_LE(bytes, std::max(kLogitBytes + 64 * chunks.stride * 4,
                                      kFewestLossRows * chunks.stride * 4));
        }
    }
    EXPECT_EQ(loss_chunks(100, 50304, 16).rows, 16);
    EXPECT_EQ(loss_chunks(0, 50304, 0).rows, 0);
}

}  // namespace
}  // namespace tempra::cuda
