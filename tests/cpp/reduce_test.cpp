// Reductions, extremes' positions, cumulative sums and sorting on every ISA against plain loops.
#include <gtest/gtest.h>

#include <numeric>

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

constexpr ReduceOp kAllOps[] = {ReduceOp::sum, ReduceOp::mean, ReduceOp::maximum, ReduceOp::minimum,
                                ReduceOp::product};

double combine(ReduceOp op, double a, double b) {
    switch (op) {
        case ReduceOp::product: return a * b;
        case ReduceOp::maximum:
            return std::isnan(a) || std::isnan(b) ? std::nan("") : std::max(a, b);
        case ReduceOp::minimum:
            return std::isnan(a) || std::isnan(b) ? std::nan("") : std::min(a, b);
        default: return a + b;
    }
}

// The size-1 version of the dimensions in `mask` (bit d: dimension d).
Sizes reduced_sizes(const Sizes& sizes, unsigned mask) {
    Sizes reduced = sizes;
    for (size_t d = 0; d < sizes.size(); ++d) {
        if ((mask >> d & 1) != 0) reduced[d] = 1;
    }
    return reduced;
}

// For each output (row-major), its elements' combination.
std::vector<double> reference(ReduceOp op, const TestTensor& in, const TestTensor& out) {
    std::vector<double> totals(static_cast<size_t>(out.numel()));
    std::vector<std::int64_t> counts(totals.size());
    for (std::int64_t i = 0; i < in.numel(); ++i) {
        std::int64_t rest = i, at = 0, stride = 1;
        for (int d = in.view().dimensions - 1; d >= 0; --d) {
            const std::int64_t index = rest % in.view().sizes[d];
            rest /= in.view().sizes[d];
            if (out.view().sizes[d] != 1) at += index * stride;
            stride *= out.view().sizes[d];
        }
        const auto o = static_cast<size_t>(at);
        totals[o] = counts[o]++ == 0 ? in.get(i) : combine(op, totals[o], in.get(i));
    }
    if (op == ReduceOp::mean) {
        for (size_t o = 0; o < totals.size(); ++o) totals[o] /= static_cast<double>(counts[o]);
    }
    return totals;
}

void check_reduce(cpu::Isa isa, DType dtype, const Sizes& sizes, unsigned mask, Layout layout) {
    TestTensor in(dtype, sizes, layout);
    in.fill_normal(static_cast<unsigned>(sizes.size()) + mask);
    for (const ReduceOp op : kAllOps) {
        if (!is_floating(dtype) && op == ReduceOp::mean) continue;
        TestTensor out(dtype, reduced_sizes(sizes, mask), layout);
        ASSERT_EQ(cpu_kernel_table(isa).reduce({}, op, in.view(), out.view()), kKernelOk);
        const std::vector<double> want = reference(op, in, out);
        // Sums cancel: the error is relative to the partial sums, which grow with the root of the
        // number of terms (of size 1), and each of the 64 terms of an fp32 partial sum rounds it.
        const auto count = static_cast<double>(in.numel() / out.numel());
        const double absolute =
            op == ReduceOp::product ? 1e-30 : std::sqrt(count) * tolerance_of(dtype, 16);
        const double relative = tolerance_of(dtype, 4) + count * 0x1p-53;
        for (std::int64_t i = 0; i < out.numel(); ++i) {
            ASSERT_TRUE(agrees(out.get(i), want[static_cast<size_t>(i)], relative, absolute))
                << cpu::name_of(isa) << " " << name_of(dtype) << " operation "
                << static_cast<int>(op) << " output " << i << ": " << out.get(i) << ", want "
                << want[static_cast<size_t>(i)];
        }
    }
}

TEST(Reduce, AnySetOfDimensionsInAnyLayout) {
    const std::vector<Sizes> shapes = {{7},        {5, 33},       {300, 19},
                                       {3, 70, 9}, {2, 3, 5, 41}, {1, 6, 1}};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const Sizes& sizes : shapes) {
                for (unsigned mask = 0; mask < 1U << sizes.size(); ++mask) {
                    for (const Layout layout :
                         {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                        check_reduce(isa, dtype, sizes, mask, layout);
                        if (HasFatalFailure()) return;
                    }
                }
            }
        }
    }
}

TEST(Reduce, LargeShapesTakeTheParallelPaths) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            check_reduce(isa, dtype, {200003}, 1, Layout::contiguous);
            check_reduce(isa, dtype, {3, 70001}, 2, Layout::contiguous);
            check_reduce(isa, dtype, {2001, 130}, 1, Layout::contiguous);
            check_reduce(isa, dtype, {70, 5000}, 1, Layout::contiguous);
            check_reduce(isa, dtype, {70000, 2}, 1, Layout::spaced);
            check_reduce(isa, dtype, {30, 100, 50}, 5, Layout::contiguous);
            if (HasFatalFailure()) return;
        }
    }
}

TEST(Reduce, IntegersAndTruthValues) {
    for (const DType dtype : {DType::i64, DType::i32}) {
        check_reduce(cpu::Isa::baseline, dtype, {40, 17}, 1, Layout::contiguous);
        check_reduce(cpu::Isa::baseline, dtype, {40, 17}, 2, Layout::transposed);
        check_reduce(cpu::Isa::baseline, dtype, {40, 17}, 3, Layout::spaced);
    }
    TestTensor truth(DType::boolean, {1000}), count(DType::i64, {1}), any(DType::boolean, {1});
    truth.fill([](std::int64_t i) { return i % 3 == 0; });
    const KernelTable& table = cpu_kernel_table(cpu::Isa::baseline);
    ASSERT_EQ(table.reduce({}, ReduceOp::sum, truth.view(), count.view()), kKernelOk);
    EXPECT_EQ(count.get(0), 334);
    ASSERT_EQ(table.reduce({}, ReduceOp::maximum, truth.view(), any.view()), kKernelOk);
    EXPECT_EQ(any.get(0), 1);
    TestTensor large(DType::i64, {2}), exact(DType::i64, {1});
    large.view().as<std::int64_t>()[0] = (INT64_C(1) << 60) + 1;
    large.view().as<std::int64_t>()[1] = 2;
    ASSERT_EQ(table.reduce({}, ReduceOp::sum, large.view(), exact.view()), kKernelOk);
    EXPECT_EQ(exact.view().as<std::int64_t>()[0], (INT64_C(1) << 60) + 3);
}

TEST(Reduce, NaNPropagatesAndInfinitiesCount) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const std::int64_t length : {5, 100, 70000}) {
            for (const std::int64_t where : {std::int64_t{0}, length / 2, length - 1}) {
                TestTensor in(DType::f32, {length}), out(DType::f32, {1});
                in.fill_normal(3);
                for (const ReduceOp op : kAllOps) {
                    in.set(where, std::nan(""));
                    cpu_kernel_table(isa).reduce({}, op, in.view(), out.view());
                    EXPECT_TRUE(std::isnan(out.get(0)));
                }
                in.set(where, -INFINITY);
                cpu_kernel_table(isa).reduce({}, ReduceOp::minimum, in.view(), out.view());
                EXPECT_EQ(out.get(0), -INFINITY);
            }
            TestTensor in(DType::f32, {length}), out(DType::f32, {1});
            in.fill([](std::int64_t) { return -INFINITY; });
            cpu_kernel_table(isa).reduce({}, ReduceOp::maximum, in.view(), out.view());
            EXPECT_EQ(out.get(0), -INFINITY);
        }
    }
}

TEST(Reduce, EmptyRangesGiveTheIdentityOrFail) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        const KernelTable& table = cpu_kernel_table(isa);
        TestTensor in(DType::f32, {3, 0}), out(DType::f32, {3, 1}), none(DType::f32, {1, 0});
        ASSERT_EQ(table.reduce({}, ReduceOp::sum, in.view(), out.view()), kKernelOk);
        EXPECT_EQ(out.get(2), 0);
        ASSERT_EQ(table.reduce({}, ReduceOp::product, in.view(), out.view()), kKernelOk);
        EXPECT_EQ(out.get(2), 1);
        ASSERT_EQ(table.reduce({}, ReduceOp::mean, in.view(), out.view()), kKernelOk);
        EXPECT_TRUE(std::isnan(out.get(2)));
        EXPECT_EQ(table.reduce({}, ReduceOp::maximum, in.view(), out.view()), kKernelFailed);
        EXPECT_EQ(table.reduce({}, ReduceOp::maximum, in.view(), none.view()), kKernelOk);
        TestTensor scalar(DType::f32, {}), total(DType::f32, {});
        scalar.set(0, 7);
        ASSERT_EQ(table.reduce({}, ReduceOp::sum, scalar.view(), total.view()), kKernelOk);
        EXPECT_EQ(total.get(0), 7);
    }
}

TEST(Reduce, LongSumsKeepTheirPrecision) {
    constexpr std::int64_t kLength = 10'000'000;
    TestTensor in(DType::f32, {kLength}), out(DType::f32, {1});
    in.fill([](std::int64_t i) { return 0.1 + 1e-3 * static_cast<double>(i % 7); });
    double want = 0;
    for (std::int64_t i = 0; i < kLength; ++i) want += in.get(i);
    for (const cpu::Isa isa : isas_of_this_machine()) {
        cpu_kernel_table(isa).reduce({}, ReduceOp::sum, in.view(), out.view());
        EXPECT_NEAR(out.get(0) / want, 1.0, 2e-7);
    }
}

TEST(Reduce, ResultsDoNotDependOnTheNumberOfThreads) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const Sizes& sizes : {Sizes{1, 300000}, Sizes{3000, 100}, Sizes{9, 40001}}) {
            for (const unsigned mask : {1U, 2U, 3U}) {
                TestTensor in(DType::f32, sizes), expected(DType::f32, reduced_sizes(sizes, mask));
                in.fill_normal(4);
                set_num_threads(1);
                cpu_kernel_table(isa).reduce({}, ReduceOp::sum, in.view(), expected.view());
                for (const int threads : {2, 3}) {
                    set_num_threads(threads);
                    TestTensor out(DType::f32, reduced_sizes(sizes, mask));
                    cpu_kernel_table(isa).reduce({}, ReduceOp::sum, in.view(), out.view());
                    EXPECT_EQ(out.bytes(), expected.bytes());
                }
                set_num_threads(1);
            }
        }
    }
}

// Calls body(line, element numbers of the line) for each line along `dimension`.
template <class Body>
void for_each_line(const Sizes& sizes, size_t dimension, const Body& body) {
    std::int64_t inner = 1, outer = 1;
    for (size_t d = 0; d < sizes.size(); ++d) {
        if (d < dimension) outer *= sizes[d];
        if (d > dimension) inner *= sizes[d];
    }
    for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t i = 0; i < inner; ++i) {
            std::vector<std::int64_t> line;
            for (std::int64_t k = 0; k < sizes[dimension]; ++k) {
                line.push_back((o * sizes[dimension] + k) * inner + i);
            }
            body(o * inner + i, line);
        }
    }
}

const std::vector<Sizes> kLineShapes = {{1}, {40}, {6, 300}, {300, 6}, {5, 33, 7}, {2, 5000}};

std::vector<DType> ordered_dtypes(cpu::Isa isa) {
    std::vector<DType> dtypes = compute_dtypes(isa);
    if (isa == cpu::Isa::baseline)
        for (const DType dtype : {DType::i64, DType::i32}) dtypes.push_back(dtype);
    return dtypes;
}

// Few distinct values, so that there are ties; some NaN for floats.
void fill_with_ties(TestTensor& in, unsigned seed, bool with_nan) {
    std::mt19937 engine(seed);
    in.fill([&](std::int64_t) {
        const auto draw = static_cast<double>(engine() % 64);
        return with_nan && draw == 5 ? std::nan("") : draw == 6 ? -0.0 : draw - 32;
    });
}

bool ranks_before(double a, double b, bool descending) {
    if (std::isnan(a) || std::isnan(b)) {
        return descending ? std::isnan(a) && !std::isnan(b) : std::isnan(b) && !std::isnan(a);
    }
    return descending ? a > b : a < b;
}

TEST(ArgReduce, FirstExtremeInAnyLayout) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : ordered_dtypes(isa)) {
            for (const Sizes& sizes : kLineShapes) {
                for (size_t d = 0; d < sizes.size(); ++d) {
                    for (const Layout layout :
                         {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                        for (const bool with_nan : {false, true}) {
                            TestTensor in(dtype, sizes, layout);
                            TestTensor out(DType::i64, reduced_sizes(sizes, 1U << d), layout);
                            fill_with_ties(in, 5, with_nan && is_floating(dtype));
                            for (const bool maximum : {false, true}) {
                                ASSERT_EQ(
                                    cpu_kernel_table(isa).arg_reduce(
                                        {}, maximum, in.view(), static_cast<int>(d), out.view()),
                                    kKernelOk);
                                for_each_line(sizes, d, [&](std::int64_t number, const auto& line) {
                                    size_t best = 0;
                                    for (size_t k = 1; k < line.size(); ++k) {
                                        const double x = in.get(line[k]), y = in.get(line[best]);
                                        if (std::isnan(y)) break;
                                        if (std::isnan(x) || (maximum ? x > y : x < y)) best = k;
                                    }
                                    EXPECT_EQ(out.get(number), static_cast<double>(best));
                                });
                            }
                        }
                    }
                }
            }
        }
    }
}

TEST(CumulativeSum, BothDirectionsInAnyLayout) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : ordered_dtypes(isa)) {
            for (const Sizes& sizes : kLineShapes) {
                for (size_t d = 0; d < sizes.size(); ++d) {
                    for (const Layout layout :
                         {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                        TestTensor in(dtype, sizes, layout), out(dtype, sizes);
                        in.fill_uniform(2, -9, 10);
                        for (const bool reverse : {false, true}) {
                            ASSERT_EQ(cpu_kernel_table(isa).cumulative_sum(
                                          {}, in.view(), static_cast<int>(d), reverse, out.view()),
                                      kKernelOk);
                            for_each_line(sizes, d, [&](std::int64_t, auto line) {
                                if (reverse) std::reverse(line.begin(), line.end());
                                double sum = 0;
                                for (const std::int64_t i : line) {
                                    sum += in.get(i);
                                    ASSERT_TRUE(
                                        agrees(out.get(i), sum, tolerance_of(dtype, 2), 1e-12));
                                }
                            });
                        }
                    }
                }
            }
        }
    }
}

TEST(Sort, StableInBothDirectionsWithTopK) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : ordered_dtypes(isa)) {
            for (const Sizes& sizes : kLineShapes) {
                for (size_t d = 0; d < sizes.size(); ++d) {
                    TestTensor in(dtype, sizes, Layout::spaced);
                    fill_with_ties(in, 9, is_floating(dtype));
                    for (const std::int64_t k :
                         {sizes[d], (sizes[d] + 1) / 2, std::min<std::int64_t>(sizes[d], 3)}) {
                        Sizes kept = sizes;
                        kept[d] = k;
                        TestTensor values(dtype, kept),
                            indices(DType::i64, kept, Layout::transposed);
                        for (const bool descending : {false, true}) {
                            ASSERT_EQ(cpu_kernel_table(isa).sort({}, in.view(), static_cast<int>(d),
                                                                 descending, values.view(),
                                                                 indices.view()),
                                      kKernelOk);
                            std::vector<std::vector<std::int64_t>> sorted;
                            for_each_line(sizes, d, [&](std::int64_t, const auto& line) {
                                std::vector<std::int64_t> order(line.size());
                                std::iota(order.begin(), order.end(), 0);
                                std::stable_sort(order.begin(), order.end(),
                                                 [&](std::int64_t a, std::int64_t b) {
                                                     return ranks_before(
                                                         in.get(line[static_cast<size_t>(a)]),
                                                         in.get(line[static_cast<size_t>(b)]),
                                                         descending);
                                                 });
                                for (std::int64_t& o : order) o = line[static_cast<size_t>(o)];
                                sorted.push_back(order);
                            });
                            for_each_line(kept, d, [&](std::int64_t number, const auto& line) {
                                for (size_t i = 0; i < line.size(); ++i) {
                                    const std::int64_t from =
                                        sorted[static_cast<size_t>(number)][i];
                                    ASSERT_TRUE(agrees(values.get(line[i]), in.get(from), 0));
                                    std::int64_t inner = 1;
                                    for (size_t e = d + 1; e < sizes.size(); ++e) inner *= sizes[e];
                                    ASSERT_EQ(indices.get(line[i]), from / inner % sizes[d]);
                                }
                            });
                        }
                    }
                }
            }
        }
    }
}

TEST(Sort, ManyDistinctValues) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            TestTensor in(dtype, {50304}), top(dtype, {50}), top_indices(DType::i64, {50});
            TestTensor all(dtype, {50304}), all_indices(DType::i64, {50304});
            in.fill_normal(11);
            cpu_kernel_table(isa).sort({}, in.view(), 0, 1, all.view(), all_indices.view());
            cpu_kernel_table(isa).sort({}, in.view(), 0, 1, top.view(), top_indices.view());
            for (std::int64_t i = 1; i < 50304; ++i) ASSERT_GE(all.get(i - 1), all.get(i));
            for (std::int64_t i = 0; i < 50; ++i) ASSERT_EQ(top_indices.get(i), all_indices.get(i));
        }
    }
}

}  // namespace
}  // namespace tempra
