// How rows, reductions and arenas are cut into blocks and threads: walked here as kernels walk
// them.
#include "launch_shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "arena_walk.h"
#include "random_range.h"
#include "reduce_nest.h"
#include "row_shape.h"

namespace tempra::cuda {
namespace {

void* const kAligned = reinterpret_cast<void*>(std::uintptr_t{1} << 20);

TensorView view(std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
                DType dtype = DType::f32, void* data = kAligned) {
    TensorView v;
    v.data = data;
    v.dtype = dtype;
    v.dimensions = static_cast<std::int32_t>(sizes.size());
    for (std::size_t d = 0; d < sizes.size(); ++d) {
        v.sizes[d] = sizes[d];
        v.strides[d] = strides[d];
    }
    return v;
}

TEST(RowShape, ThreadsAreWholeWarpsAndNoMoreThanTheRowNeeds) {
    EXPECT_EQ(row_threads(0, 4), 32);
    EXPECT_EQ(row_threads(1, 4), 32);
    EXPECT_EQ(row_threads(128, 4), 32);
    EXPECT_EQ(row_threads(129, 4), 64);
    EXPECT_EQ(row_threads(768, 8), 96);
    EXPECT_EQ(row_threads(50304, 8), kMostRowThreads);
}

TEST(RowShape, RowsMustStartOnSixteenBytes) {
    EXPECT_TRUE(rows_are_aligned(view({4, 8}, {8, 1})));
    EXPECT_FALSE(rows_are_aligned(view({4, 7}, {7, 1})));
    EXPECT_TRUE(rows_are_aligned(view({1, 7}, {7, 1}))) << "a single row has no next one";
    EXPECT_FALSE(rows_are_aligned(view({4, 4}, {4, 1}, DType::bf16)));
    EXPECT_FALSE(
        rows_are_aligned(view({4, 8}, {8, 1}, DType::f32, static_cast<char*>(kAligned) + 4)));
    EXPECT_FALSE(rows_are_aligned(view({4, 8}, {1, 4})));
    EXPECT_TRUE(rows_are_aligned(TensorView{})) << "absent";
    EXPECT_TRUE(rows_are_aligned(view({8}, {1})));
}

TEST(RowShape, ChunksCoverAllRowsOnce) {
    for (const std::int64_t rows : {0, 1, 2, 511, 512, 513, 1024, 1025, 65536, 100003}) {
        const RowChunks chunks = row_chunks(rows);
        EXPECT_LE(chunks.count, kMostRowChunks);
        if (rows == 0) continue;
        EXPECT_GE(chunks.count * chunks.rows_each, rows);
        EXPECT_LT((chunks.count - 1) * chunks.rows_each, rows) << "an empty chunk";
    }
}

TEST(RowShape, WideRowsAreNotSummedInSharedMemory) {
    EXPECT_EQ(shared_accumulator_bytes(768, 2), 768 * 8);
    EXPECT_EQ(shared_accumulator_bytes(768, 0), 0);
    EXPECT_EQ(shared_accumulator_bytes(6000, 2), 48000);
    EXPECT_EQ(shared_accumulator_bytes(8192, 2), 0);
}

// Sums by walking the nest as reduce.cu does, with chunks and the second pass.
std::map<std::int64_t, double> sums_of(const ReduceNest& nest,
                                       const std::map<std::int64_t, double>& in) {
    std::map<std::int64_t, double> partials, out;
    const std::int64_t outputs = nest.kept.product;
    for (std::int64_t output = 0; output < outputs; ++output) {
        const std::int64_t base = nest.kept.in_offset(output);
        for (std::int64_t chunk = 0; chunk < nest.chunks; ++chunk) {
            const std::int64_t begin = chunk * nest.chunk_elements;
            const std::int64_t end = std::min(begin + nest.chunk_elements, nest.reduced.product);
            EXPECT_TRUE(begin < end || nest.reduced.product == 0) << "an empty chunk";
            double sum = 0;
            for (std::int64_t i = begin; i < end; ++i) {
                sum += in.at(base + nest.reduced.in_offset(i));
            }
            partials[output * nest.chunks + chunk] = sum;
            if (nest.chunks == 1) out[nest.kept.out_offset(output)] = sum;
        }
    }
    return nest.chunks == 1 ? out : sums_of(second_pass(nest), partials);
}

void expect_sums(const TensorView& in, const TensorView& out) {
    std::map<std::int64_t, double> values, want;
    const std::int64_t elements = in.numel();
    for (std::int64_t i = 0; i < elements; ++i) {
        std::int64_t rest = i, from = 0, to = 0;
        for (int d = in.dimensions - 1; d >= 0; --d) {
            const std::int64_t at = rest % in.sizes[d];
            from += at * in.strides[d];
            if (out.sizes[d] != 1) to += at * out.strides[d];
            rest /= in.sizes[d];
        }
        values[from] = static_cast<double>(from * from % 1009);
        want[to] += values[from];
    }
    EXPECT_EQ(sums_of(reduce_nest(in, out), values), want);
}

TEST(ReduceNest, LastDimensionGoesToBlocks) {
    const TensorView in = view({6, 50}, {50, 1}), out = view({6, 1}, {1, 1});
    const ReduceNest nest = reduce_nest(in, out);
    EXPECT_EQ(nest.by_block, 1);
    EXPECT_EQ(nest.chunks, 1);
    expect_sums(in, out);
}

TEST(ReduceNest, FirstDimensionGoesToThreads) {
    const TensorView in = view({300, 50}, {50, 1}), out = view({1, 50}, {50, 1});
    const ReduceNest nest = reduce_nest(in, out);
    EXPECT_EQ(nest.by_block, 0);
    EXPECT_GT(nest.chunks, 1);
    expect_sums(in, out);
}

TEST(ReduceNest, FewOutputsAreCutIntoChunks) {
    const TensorView in = view({100000}, {1}), out = view({1}, {1});
    const ReduceNest nest = reduce_nest(in, out);
    EXPECT_EQ(nest.chunk_elements, kLeastPerBlock);
    EXPECT_EQ(nest.chunks, 13);
    expect_sums(in, out);
    const TensorView large = view({std::int64_t{1} << 33}, {1});
    EXPECT_EQ(reduce_nest(large, out).chunks, kWantedBlocks);
    const TensorView odd = view({kWantedBlocks * (kLeastPerBlock + 1)}, {1});
    EXPECT_EQ(reduce_nest(odd, out).chunk_elements, kLeastPerBlock + 8) << "whole packs";
}

TEST(ReduceNest, ThousandsOfOutputsAreNotCut) {
    const TensorView in = view({4096, 100000}, {100000, 1}), out = view({4096, 1}, {1, 1});
    EXPECT_EQ(reduce_nest(in, out).chunks, 1);
}

TEST(ReduceNest, NothingToReduce) {
    const TensorView in = view({3, 0}, {1, 1}), out = view({3, 1}, {1, 1});
    const ReduceNest nest = reduce_nest(in, out);
    EXPECT_EQ(nest.kept.product, 3);
    EXPECT_EQ(nest.reduced.product, 0);
    EXPECT_EQ(nest.chunks, 1);
    const TensorView none = view({0, 4}, {4, 1}), none_out = view({0, 1}, {1, 1});
    EXPECT_EQ(reduce_nest(none, none_out).kept.product, 0);
}

TEST(ReduceNest, RandomLayouts) {
    std::mt19937 engine(11);
    const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); };
    for (int round = 0; round < 300 && !testing::Test::HasFailure(); ++round) {
        const int dimensions = 1 + below(4);
        std::vector<std::int64_t> sizes, out_sizes, order;
        for (int d = 0; d < dimensions; ++d) {
            sizes.push_back(1 + below(d == 0 ? 300 : 8));
            out_sizes.push_back(below(2) == 0 ? 1 : sizes.back());
            order.push_back(d);
        }
        std::ranges::shuffle(order, engine);
        std::vector<std::int64_t> strides(sizes.size()), out_strides(sizes.size());
        std::int64_t stride = 1, out_stride = 1;
        for (const std::int64_t d : order) {
            strides[d] = stride;
            stride *= sizes[d];
        }
        for (int d = dimensions - 1; d >= 0; --d) {
            out_strides[d] = out_stride;
            out_stride *= out_sizes[d];
        }
        expect_sums(view(sizes, strides), view(out_sizes, out_strides));
    }
}

// Every element of every unfrozen segment, counted by all blocks together.
std::map<std::int64_t, int> visits(const std::vector<ArenaSegment>& segments) {
    std::map<std::int64_t, int> seen;
    for (std::int64_t block = 0; block < kArenaBlocks; ++block) {
        for_each_arena_piece(segments.data(), static_cast<std::int64_t>(segments.size()), block,
                             kArenaBlocks,
                             [&](const ArenaSegment&, std::int64_t first, std::int64_t last) {
                                 EXPECT_LT(first, last);
                                 EXPECT_EQ(first / kArenaChunk, (last - 1) / kArenaChunk);
                                 for (std::int64_t i = first; i < last; ++i) ++seen[i];
                             });
    }
    return seen;
}

TEST(ArenaWalk, VisitsUnfrozenElementsOnce) {
    const std::vector<ArenaSegment> segments = {{3, 1, 0, 0},
                                                {4, 17, 1, 0},
                                                {32, 50001, 0, 0},
                                                {50040, 100, 1, 1},
                                                {50140, 0, 0, 0},
                                                {50160, 7, 1, 0},
                                                {5 * kArenaChunk * 100, kArenaChunk, 0, 0},
                                                {600 * kArenaChunk, 5, 0, 0}};
    std::map<std::int64_t, int> want;
    for (const ArenaSegment& s : segments) {
        for (std::int64_t i = 0; s.frozen == 0 && i < s.length; ++i) want[s.offset + i] = 1;
    }
    EXPECT_EQ(visits(segments), want);
    EXPECT_TRUE(visits({}).empty());
    EXPECT_TRUE(visits({{8, 100, 0, 1}}).empty());
}

TEST(ArenaWalk, NoticesSegmentsOutOfOrder) {
    const ArenaSegment good[] = {{0, 4, 0, 0}, {4, 0, 0, 0}, {4, 9, 0, 0}};
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(segment_is_in_order(good, i));
    const ArenaSegment overlapping[] = {{0, 4, 0, 0}, {3, 9, 0, 0}};
    EXPECT_FALSE(segment_is_in_order(overlapping, 1));
    const ArenaSegment negative[] = {{0, -4, 0, 0}, {-3, 9, 0, 0}};
    EXPECT_FALSE(segment_is_in_order(negative, 0));
    EXPECT_FALSE(segment_is_in_order(negative, 1));
}

TEST(RandomRange, LargestNumberBelow) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const double bound : {1.0, -1.0, 0.5, 3.25, 1e-30, -7.0}) {
        const float below = largest_below(bound, DType::f32);
        EXPECT_LT(static_cast<double>(below), bound);
        EXPECT_GE(static_cast<double>(std::nextafter(below, infinity)), bound);
        const float coarse = largest_below(bound, DType::bf16);
        EXPECT_LT(static_cast<double>(coarse), bound);
        EXPECT_EQ(bfloat16::from_float(coarse).to_float(), coarse);
        const float half = largest_below(bound, DType::f16);
        EXPECT_LT(static_cast<double>(half), bound);
        EXPECT_EQ(float16_value(float16_bits(half)), half);
    }
    EXPECT_LT(largest_below(0.0, DType::f32), 0.0F);
    EXPECT_EQ(largest_below(0.0, DType::f16), -0x1p-24F);
    EXPECT_EQ(largest_below(1.0, DType::f16), 1.0F - 0x1p-11F);
    EXPECT_EQ(largest_below(-1.0, DType::f16), -1.0F - 0x1p-10F);
    EXPECT_EQ(largest_below(0.1, DType::f32), std::nextafter(0.1F, 0.0F));  // 0.1F is above 0.1
}

}  // namespace
}  // namespace tempra::cuda
