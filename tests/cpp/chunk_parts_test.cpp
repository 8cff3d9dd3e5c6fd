// Which chunks a thread takes, and in which order. Real threads meet in thread_pool_test.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "platform/chunk_parts.h"

namespace tempra::platform {
namespace {

using Order = std::vector<std::int64_t>;

// The chunks of ten, in the order in which one thread after the other would run them.
struct TenChunks {
    LoopJob job;
    ChunkParts parts;
    Order order;
    std::int64_t leaves_at = -1;  // before this chunk, another thread, of part 0, runs all it can

    explicit TenChunks(int threads) : parts(threads) {
        job.body = [](void* context, std::int64_t begin, std::int64_t end) {
            auto& self = *static_cast<TenChunks*>(context);
            EXPECT_EQ(end, begin + 1);
            if (begin == self.leaves_at) {
                self.leaves_at = -1;
                self.parts.run(self.job, 0);
            }
            self.order.push_back(begin);
        };
        job.context = this;
        job.count = job.chunks = 10;
    }
    Order run(int own) {
        order.clear();
        parts.begin(job);
        parts.run(job, own);
        return order;
    }
};

TEST(ChunkParts, AThreadsOwnPartComesFirst) {
    TenChunks of_four(4);  // 0 to 2, 3 to 5, 6 and 7, 8 and 9
    EXPECT_EQ(of_four.run(2), (Order{6, 7, 8, 9, 0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(of_four.run(1), (Order{3, 4, 5, 6, 7, 8, 9, 0, 1, 2}));
    EXPECT_EQ(of_four.run(0), (Order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(of_four.run(4), of_four.run(0));
    of_four.parts.resize(1);
    EXPECT_EQ(of_four.run(3), (Order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    // More threads than chunks: ten parts of one.
    of_four.parts.resize(64);
    EXPECT_EQ(of_four.run(63), (Order{3, 4, 5, 6, 7, 8, 9, 0, 1, 2}));
}

TEST(ChunkParts, WhatAnotherThreadTookIsNotRunAgain) {
    TenChunks of_two(2);
    of_two.leaves_at = 6;  // its caller has taken 5 and 6
    EXPECT_EQ(of_two.run(1), (Order{5, 0, 1, 2, 3, 4, 7, 8, 9, 6}));
    EXPECT_EQ(of_two.run(1), (Order{5, 6, 7, 8, 9, 0, 1, 2, 3, 4}));
}

TEST(ChunkParts, ManyChunksAreTakenSeveralAtATime) {
    TenChunks of_two(2);
    of_two.job.chunks_per_claim = 4;  // 0 to 7, 8 and 9
    EXPECT_EQ(of_two.run(1), (Order{8, 9, 0, 1, 2, 3, 4, 5, 6, 7}));
    of_two.job.chunks_per_claim = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(of_two.run(1), (Order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(ChunkParts, InOrderThereIsOnePart) {
    TenChunks of_four(4);
    of_four.job.in_order = true;
    EXPECT_EQ(of_four.run(2), (Order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    of_four.leaves_at = 1;
    EXPECT_EQ(of_four.run(3), (Order{0, 2, 3, 4, 5, 6, 7, 8, 9, 1}));
    of_four.job.in_order = false;
    EXPECT_EQ(of_four.run(2), (Order{6, 7, 8, 9, 0, 1, 2, 3, 4, 5}));
}

// A part that was last touched when the number of loops was what it is again must not count as
// taken: its chunks would never run.
TEST(ChunkParts, TheNumberOfLoopsMayWrap) {
    for (const bool in_order_first : {false, true}) {
        TenChunks of_two(2);
        EXPECT_EQ(of_two.run(1).size(), 10U);  // loop 1, in both parts
        of_two.parts.skip_loops(std::numeric_limits<std::uint32_t>::max() - 1);
        of_two.job.in_order = in_order_first;
        EXPECT_EQ(of_two.run(1).size(), 10U);  // whatever number follows the last, in one or both
        of_two.job.in_order = false;
        EXPECT_EQ(of_two.run(1), (Order{5, 6, 7, 8, 9, 0, 1, 2, 3, 4}));
    }
}

}  // namespace
}  // namespace tempra::platform
