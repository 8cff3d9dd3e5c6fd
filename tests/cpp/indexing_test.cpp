// gather, scatter and embedding on every ISA against plain loops.
#include <gtest/gtest.h>

#include "tempra/threads.h"
#include "test_tensor.h"

namespace tempra {
namespace {

using testing::agrees;
using testing::compute_dtypes;
using testing::isas_of_this_machine;
using testing::Layout;
using testing::Sizes;
using testing::TestTensor;
using testing::tolerance_of;

const Layout kLayouts[] = {Layout::contiguous, Layout::transposed, Layout::spaced};

// The row-major number of the element with `sizes`-coordinates of element i of `shape`, coordinate
// `dimension` replaced.
std::int64_t moved(const Sizes& shape, std::int64_t i, const Sizes& sizes, size_t dimension,
                   std::int64_t coordinate) {
    Sizes at(shape.size());
    for (size_t d = shape.size(); d-- > 0;) {
        at[d] = i % shape[d];
        i /= shape[d];
    }
    if (dimension < at.size()) at[dimension] = coordinate;
    std::int64_t number = 0;
    for (size_t d = 0; d < sizes.size(); ++d) number = number * sizes[d] + at[d];
    return number;
}

struct IndexCase {
    Sizes shape, index;  // of the indexed tensor, of the index
    size_t dimension;
};
const std::vector<IndexCase> kIndexCases = {{{}, {}, 0},
                                            {{9}, {20}, 0},
                                            {{50, 30}, {50, 1}, 1},
                                            {{6, 400}, {6, 77}, 1},
                                            {{40, 700}, {3, 700}, 0},
                                            {{4, 5, 6}, {4, 9, 6}, 1},
                                            {{8, 3}, {0, 3}, 0},
                                            {{7, 1000}, {300, 1000}, 0},
                                            {{5, 6, 7}, {2, 6, 7}, 0},
                                            {{5, 6, 7}, {5, 4, 3}, 2}};

void fill_indices(TestTensor& index, std::int64_t extent, unsigned seed) {
    std::mt19937 engine(seed);
    index.fill([&](std::int64_t) {
        return static_cast<double>(engine() % static_cast<unsigned>(extent));
    });
}

std::int64_t extent_of(const IndexCase& test) {
    return test.shape.empty() ? 1 : test.shape[test.dimension];
}

TEST(Indexing, GatherMatchesTakeAlongAxis) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::i64, DType::u8}) {
            for (const IndexCase& test : kIndexCases) {
                for (const Layout layout : kLayouts) {
                    for (const DType index_dtype : {DType::i64, DType::i32}) {
                        TestTensor in(dtype, test.shape, layout),
                            index(index_dtype, test.index, layout);
                        TestTensor out(dtype, test.index);
                        in.fill([](std::int64_t i) { return i * 7 % 251; });
                        fill_indices(index, extent_of(test), 3);
                        ASSERT_EQ(cpu_kernel_table(isa).gather({}, in.view(),
                                                               static_cast<int>(test.dimension),
                                                               index.view(), out.view()),
                                  kKernelOk);
                        for (std::int64_t i = 0; i < out.numel(); ++i) {
                            const auto coordinate = static_cast<std::int64_t>(index.get(i));
                            ASSERT_EQ(out.get(i), in.get(moved(test.index, i, test.shape,
                                                               test.dimension, coordinate)));
                        }
                    }
                }
            }
        }
    }
}

TEST(Indexing, GatherOfWholeRowsByABroadcastIndex) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor in(DType::bf16, {50, 300}), index(DType::i64, {400, 1}),
            out(DType::bf16, {400, 300});
        in.fill_normal(1);
        fill_indices(index, 50, 2);
        ASSERT_EQ(cpu_kernel_table(isa).gather({}, in.view(), 0, index.broadcast_to({400, 300}),
                                               out.view()),
                  kKernelOk);
        for (std::int64_t i = 0; i < out.numel(); ++i) {
            ASSERT_EQ(out.get(i),
                      in.get(static_cast<std::int64_t>(index.get(i / 300)) * 300 + i % 300));
        }
    }
}

TEST(Indexing, ScatterAssignsTheLastAndAddsInOrder) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        std::vector<DType> dtypes = compute_dtypes(isa);
        if (isa == cpu::Isa::baseline)
            for (const DType dtype : {DType::i64, DType::i32}) dtypes.push_back(dtype);
        for (const DType dtype : dtypes) {
            for (const IndexCase& test : kIndexCases) {
                for (const Layout layout : kLayouts) {
                    for (const bool add : {false, true}) {
                        TestTensor source(dtype, test.index, layout), index(DType::i64, test.index);
                        TestTensor out(dtype, test.shape, layout), expected(out);
                        source.fill([](std::int64_t i) { return i * 5 % 17; });
                        fill_indices(index, extent_of(test), 4);
                        for (TestTensor* t : {&out, &expected})
                            t->fill([](std::int64_t i) { return i % 11; });
                        ASSERT_EQ(cpu_kernel_table(isa).scatter({}, source.view(),
                                                                static_cast<int>(test.dimension),
                                                                index.view(), add, out.view()),
                                  kKernelOk);
                        for (std::int64_t i = 0; i < source.numel(); ++i) {
                            const auto coordinate = static_cast<std::int64_t>(index.get(i));
                            const std::int64_t to =
                                moved(test.index, i, test.shape, test.dimension, coordinate);
                            expected.set(to, (add ? expected.get(to) : 0) + source.get(i));
                        }
                        ASSERT_EQ(out.bytes(), expected.bytes()) << name_of(dtype);
                    }
                }
            }
        }
    }
}

TEST(Indexing, IndicesOutsideAreReported) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        const KernelTable& table = cpu_kernel_table(isa);
        for (const double bad : {-1.0, 5.0}) {
            TestTensor data(DType::f32, {5, 4}), index(DType::i64, {2, 4}), out(DType::f32, {2, 4});
            TestTensor tokens(DType::i64, {3}), rows(DType::f32, {3, 4});
            data.fill_normal(1);
            index.fill([&](std::int64_t i) { return i == 6 ? bad : 1.0; });
            tokens.fill([&](std::int64_t i) { return i == 2 ? bad : 1.0; });
            EXPECT_EQ(table.gather({}, data.view(), 0, index.view(), out.view()),
                      kKernelIndexOutOfRange);
            EXPECT_EQ(table.scatter({}, out.view(), 0, index.view(), 1, data.view()),
                      kKernelIndexOutOfRange);
            EXPECT_EQ(table.embedding({}, data.view(), tokens.view(), rows.view()),
                      kKernelIndexOutOfRange);
            EXPECT_EQ(table.embedding_backward({}, rows.view(), tokens.view(), data.view()),
                      kKernelIndexOutOfRange);
        }
    }
}

TEST(Embedding, RowsAreCopiedAndConverted) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const DType weight_dtype : {dtype, dtype == DType::bf16 ? DType::f32 : dtype}) {
                for (const std::int64_t width : {1, 33, 768}) {
                    for (const Layout layout : kLayouts) {
                        TestTensor weight(weight_dtype, {19, width}, layout),
                            tokens(DType::i32, {70}, layout);
                        TestTensor out(dtype, {70, width});
                        weight.fill_normal(5);
                        fill_indices(tokens, 19, 6);
                        ASSERT_EQ(cpu_kernel_table(isa).embedding({}, weight.view(), tokens.view(),
                                                                  out.view()),
                                  kKernelOk);
                        for (std::int64_t i = 0; i < out.numel(); ++i) {
                            const double want = weight.get(
                                static_cast<std::int64_t>(tokens.get(i / width)) * width +
                                i % width);
                            ASSERT_TRUE(agrees(out.get(i), want, tolerance_of(dtype)));
                        }
                    }
                }
            }
        }
    }
}

TEST(Embedding, BackwardAddsInOrderOfPositionOnAnyNumberOfThreads) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const std::int64_t width : {5, 130, 700}) {
                for (const Layout layout : kLayouts) {
                    const DType sum = dtype == DType::f64 ? DType::f64 : DType::f32;
                    TestTensor gradient(dtype, {90, width}, layout), tokens(DType::i64, {90});
                    TestTensor start(sum, {11, width});
                    gradient.fill_normal(7);
                    start.fill_normal(8);
                    fill_indices(tokens, 11, 9);
                    TestTensor expected(start);
                    for (std::int64_t i = 0; i < gradient.numel(); ++i) {
                        const std::int64_t to =
                            static_cast<std::int64_t>(tokens.get(i / width)) * width + i % width;
                        expected.set(to, expected.get(to) + gradient.get(i));
                    }
                    for (const int threads : {1, 2, 3}) {
                        set_num_threads(threads);
                        TestTensor out(start);
                        ASSERT_EQ(cpu_kernel_table(isa).embedding_backward(
                                      {}, gradient.view(), tokens.view(), out.view()),
                                  kKernelOk);
                        ASSERT_EQ(out.bytes(), expected.bytes());
                    }
                    set_num_threads(1);
                }
            }
        }
    }
}

}  // namespace
}  // namespace tempra
