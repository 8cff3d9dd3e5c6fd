// The pool hands out blocks that are as large as asked for, whatever it handed out before.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <cstring>

#include "memory/caching_pool.h"

namespace tempra {
namespace {

TEST(CachingPool, BlocksOfNeighbouringSizesAreNotConfused) {
    // Released in between, so that a block of a wrong class would be found again.
    for (std::int64_t limit = 64; limit <= std::int64_t{1} << 24; limit *= 2) {
        for (std::int64_t eighth = 8; eighth < 16; ++eighth) {
            for (const std::int64_t offset : {-1, 0, 1}) {
                const std::int64_t bytes = limit / 8 * eighth + offset;
                void* block = pool_allocate(bytes);
                ASSERT_NE(block, nullptr);
                EXPECT_GE(static_cast<std::int64_t>(malloc_usable_size(block)), bytes);
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0U);
                std::memset(block, 1, static_cast<std::size_t>(bytes));
                pool_release(block, bytes);
            }
        }
    }
    pool_trim();
}

TEST(CachingPool, AReleasedBlockIsHandedOutAgain) {
    for (const std::int64_t bytes : {0, 1, 1024, 1025, 5'000'000}) {
        pool_trim();
        void* block = pool_allocate(bytes);
        const MemoryStatistics before = pool_statistics();
        pool_release(block, bytes);
        EXPECT_EQ(pool_allocate(bytes), block) << bytes;
        const MemoryStatistics after = pool_statistics();
        EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
        EXPECT_EQ(after.bytes_reserved, before.bytes_reserved);
        EXPECT_EQ(after.allocations, before.allocations + 1);
        pool_release(block, bytes);
        pool_trim();
        EXPECT_EQ(pool_statistics().bytes_reserved, pool_statistics().bytes_in_use);
    }
}

TEST(CachingPool, WhatCannotBeHadIsNull) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "AddressSanitizer ends the process on a request as large";
#endif
    const MemoryStatistics before = pool_statistics();
    EXPECT_EQ(pool_allocate(std::int64_t{1} << 60), nullptr);
    EXPECT_EQ(pool_statistics().bytes_in_use, before.bytes_in_use);
    EXPECT_EQ(pool_statistics().allocations, before.allocations);
}

}  // namespace
}  // namespace tempra
