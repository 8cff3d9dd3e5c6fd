// Random kernels: exact counters, distributions, and independence of threads, chunks and ISA.
#include <gtest/gtest.h>

#include <numeric>

#include "random/philox.h"
#include "tempra/threads.h"
#include "test_tensor.h"

namespace tempra {
namespace {

using testing::compute_dtypes;
using testing::isas_of_this_machine;
using testing::Layout;
using testing::Sizes;
using testing::TestTensor;

constexpr PhiloxKey kKey = {0x123456789ABCDEFU, 7, 3, 11};

std::uint32_t word_of(const PhiloxKey& key, std::int64_t row, std::int64_t element) {
    const PhiloxBlock block = philox_block(key.seed, key.step, key.ordinal,
                                           key.row_offset + static_cast<std::uint32_t>(row),
                                           static_cast<std::uint32_t>(element / 4));
    return block.words[element % 4];
}

TEST(Random, UniformTakesItsBitsFromTheElementsCounter) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const Sizes& sizes :
             {Sizes{3, 203}, Sizes{1000}, Sizes{2, 5, 13}, Sizes{}, Sizes{2, 40001}}) {
            for (const Layout layout : {Layout::contiguous, Layout::spaced}) {
                TestTensor out(DType::f32, sizes, layout);
                ASSERT_EQ(cpu_kernel_table(isa).random_fill({}, RandomDistribution::uniform, 0, 1,
                                                            kKey, out.view()),
                          kKernelOk);
                const std::int64_t columns = out.numel() / (sizes.size() > 1 ? sizes[0] : 1);
                for (std::int64_t i = 0; i < out.numel(); ++i) {
                    ASSERT_EQ(out.get(i), static_cast<double>(philox_uniform(
                                              word_of(kKey, i / columns, i % columns))))
                        << i;
                }
            }
        }
    }
}

struct Moments {
    double mean, variance, skewness;
};
Moments moments(const TestTensor& t) {
    const auto n = static_cast<double>(t.numel());
    double mean = 0, variance = 0, third = 0;
    for (std::int64_t i = 0; i < t.numel(); ++i) mean += t.get(i) / n;
    for (std::int64_t i = 0; i < t.numel(); ++i) {
        const double d = t.get(i) - mean;
        variance += d * d / n;
        third += d * d * d / n;
    }
    return {mean, variance, third / std::pow(variance, 1.5)};
}

// Largest distance between the empirical distribution function and `cdf` (Kolmogorov-Smirnov).
template <class Cdf>
double largest_deviation(const TestTensor& t, const Cdf& cdf) {
    std::vector<double> sorted;
    for (std::int64_t i = 0; i < t.numel(); ++i) sorted.push_back(t.get(i));
    std::sort(sorted.begin(), sorted.end());
    double largest = 0;
    const auto n = static_cast<double>(sorted.size());
    for (size_t i = 0; i < sorted.size(); ++i) {
        const double p = cdf(sorted[i]);
        largest =
            std::max({largest, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
    }
    return largest;
}

constexpr std::int64_t kDraws = 200'000;
// Exceeded with probability 2e-9 by exact samples: 2 exp(-2 n d^2).
const double kDeviationLimit = std::sqrt(10.4 / static_cast<double>(kDraws));

TEST(Random, UniformAndNormalHaveTheirDistributions) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            const KernelTable& table = cpu_kernel_table(isa);
            TestTensor out(dtype, {kDraws});
            ASSERT_EQ(table.random_fill({}, RandomDistribution::uniform, -2, 3, kKey, out.view()),
                      kKernelOk);
            const Moments uniform = moments(out);
            EXPECT_NEAR(uniform.mean, 0.5, 0.02);
            EXPECT_NEAR(uniform.variance, 25.0 / 12, 0.03);
            for (std::int64_t i = 0; i < kDraws; ++i)
                ASSERT_TRUE(out.get(i) >= -2 && out.get(i) < 3);
            // bf16 has steps of up to 2^-7 here, a fortieth of a percent of the range.
            const double slack = dtype == DType::bf16 ? 4e-3 : 0;
            EXPECT_LT(largest_deviation(out, [](double x) { return (x + 2) / 5; }),
                      kDeviationLimit + slack);

            ASSERT_EQ(table.random_fill({}, RandomDistribution::normal, 1, 2, kKey, out.view()),
                      kKernelOk);
            const Moments normal = moments(out);
            EXPECT_NEAR(normal.mean, 1, 0.03);
            EXPECT_NEAR(normal.variance, 4, 0.08);
            EXPECT_NEAR(normal.skewness, 0, 0.03);
            EXPECT_LT(
                largest_deviation(
                    out, [](double x) { return 0.5 * std::erfc(-(x - 1) / 2 / std::sqrt(2.0)); }),
                kDeviationLimit + slack);
        }
    }
}

TEST(Random, NormalNeighboursAreUncorrelated) {
    TestTensor out(DType::f32, {kDraws});
    cpu_kernel_table(cpu::detect_isa())
        .random_fill({}, RandomDistribution::normal, 0, 1, kKey, out.view());
    for (const std::int64_t lag : {1, 2, 3, 4, 16}) {
        double sum = 0;
        for (std::int64_t i = lag; i < kDraws; ++i) sum += out.get(i) * out.get(i - lag);
        EXPECT_NEAR(sum / static_cast<double>(kDraws), 0, 0.015) << lag;
    }
}

TEST(Random, EqualOnEveryIsaAndNumberOfThreads) {
    for (const RandomDistribution distribution :
         {RandomDistribution::uniform, RandomDistribution::normal}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            TestTensor expected(dtype, {3, 70001});
            set_num_threads(1);
            cpu_kernel_table(cpu::Isa::baseline)
                .random_fill({}, distribution, 0.1, 1.7, kKey, expected.view());
            for (const cpu::Isa isa : isas_of_this_machine()) {
                for (const int threads : {1, 2, 3}) {
                    set_num_threads(threads);
                    TestTensor out(dtype, {3, 70001});
                    cpu_kernel_table(isa).random_fill({}, distribution, 0.1, 1.7, kKey, out.view());
                    EXPECT_EQ(out.bytes(), expected.bytes())
                        << cpu::name_of(isa) << " " << name_of(dtype);
                }
            }
            set_num_threads(1);
        }
    }
}

TEST(Random, UniformStaysBelowItsUpperEnd) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            TestTensor out(dtype, {kDraws});
            // A range of two or three representable numbers: most draws round to an end.
            const double top = dtype == DType::f32 ? 1 + 0x1p-22 : 1 + 0x1p-6;
            cpu_kernel_table(isa).random_fill({}, RandomDistribution::uniform, 1, top, kKey,
                                              out.view());
            for (std::int64_t i = 0; i < kDraws; ++i) ASSERT_LT(out.get(i), top);
            cpu_kernel_table(isa).random_fill({}, RandomDistribution::uniform, -1, 0, kKey,
                                              out.view());
            for (std::int64_t i = 0; i < kDraws; ++i)
                ASSERT_TRUE(out.get(i) < 0 && out.get(i) >= -1);
        }
    }
}

TEST(Dropout, KeepsByTheElementsWordAndScales) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const double probability : {0.0, 0.1, 0.5, 1.0}) {
                for (const Layout layout :
                     {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                    TestTensor in(dtype, {5, 1037}, layout), out(dtype, {5, 1037}, layout);
                    in.fill([](std::int64_t i) { return 1 + i % 3; });
                    ASSERT_EQ(
                        cpu_kernel_table(isa).dropout({}, in.view(), probability, kKey, out.view()),
                        kKernelOk);
                    std::int64_t kept = 0;
                    for (std::int64_t i = 0; i < in.numel(); ++i) {
                        const bool keep = word_of(kKey, i / 1037, i % 1037) >= probability * 0x1p32;
                        kept += keep;
                        const double want = keep ? in.get(i) / (1 - probability) : 0;
                        ASSERT_TRUE(
                            testing::agrees(out.get(i), want, testing::tolerance_of(dtype, 2)));
                    }
                    EXPECT_NEAR(static_cast<double>(kept) / 5185, 1 - probability, 0.03);
                }
            }
        }
    }
}

TEST(Dropout, RowsSplitOverCallsEqualOneCall) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor in(DType::f32, {9, 40003}), whole(DType::f32, {9, 40003}),
            parts(DType::f32, {9, 40003});
        in.fill_normal(1);
        const auto rows = [](const TensorView& view, std::int64_t begin, std::int64_t end) {
            TensorView part = view;
            part.data = view.as<float>() + begin * view.strides[0];
            part.sizes[0] = end - begin;
            return part;
        };
        const KernelTable& table = cpu_kernel_table(isa);
        set_num_threads(1);
        table.dropout({}, in.view(), 0.3, kKey, whole.view());
        set_num_threads(3);
        PhiloxKey later = kKey;
        later.row_offset += 4;
        table.dropout({}, rows(in.view(), 0, 4), 0.3, kKey, rows(parts.view(), 0, 4));
        table.dropout({}, rows(in.view(), 4, 9), 0.3, later, rows(parts.view(), 4, 9));
        set_num_threads(1);
        EXPECT_EQ(parts.bytes(), whole.bytes());
        TestTensor in_place(in);  // and in place
        table.dropout({}, in_place.view(), 0.3, kKey, in_place.view());
        EXPECT_EQ(in_place.bytes(), whole.bytes());
        EXPECT_EQ(table.dropout({}, in.view(), 1.5, kKey, whole.view()), kKernelFailed);
    }
}

TEST(Categorical, DrawsByProbabilityAndNeverTheExcluded) {
    constexpr std::int64_t kRows = 100'000;
    const double weights[] = {0.5, 0, 0.2, 0.3, 0};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            TestTensor one(dtype, {1, 5}), out(DType::i64, {kRows});
            one.fill([&](std::int64_t i) { return std::log(weights[i]) + 40; });
            const TensorView logits = one.broadcast_to({kRows, 5});
            ASSERT_EQ(cpu_kernel_table(isa).categorical({}, logits, kKey, out.view()), kKernelOk);
            std::int64_t counts[5] = {};
            for (std::int64_t i = 0; i < kRows; ++i) ++counts[static_cast<size_t>(out.get(i))];
            // bf16 rounds log-probabilities near 40 to steps of 1/4.
            const double limit = dtype == DType::bf16 ? 0.06 : 0.01;
            for (int c = 0; c < 5; ++c) {
                EXPECT_NEAR(static_cast<double>(counts[c]) / kRows, weights[c],
                            weights[c] == 0 ? 0 : limit)
                    << c;
            }
        }
    }
}

TEST(Categorical, LargeVocabularyMatchesTheInverseDistribution) {
    constexpr std::int64_t kColumns = 5003;
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor logits(DType::f32, {64, kColumns}, Layout::spaced), out(DType::i64, {64});
        logits.fill_normal(3, 3.0);
        for (const int threads : {1, 3}) {
            set_num_threads(threads);
            ASSERT_EQ(cpu_kernel_table(isa).categorical({}, logits.view(), kKey, out.view()),
                      kKernelOk);
            for (std::int64_t row = 0; row < 64; ++row) {
                std::vector<double> sums;
                double sum = 0;
                for (std::int64_t c = 0; c < kColumns; ++c)
                    sums.push_back(sum += std::exp(logits.get(row * kColumns + c)));
                const double target =
                    sum * philox_uniform(word_of(kKey, row, 0), word_of(kKey, row, 1));
                const auto drawn = static_cast<size_t>(out.get(row));
                EXPECT_GT(sums[drawn], target - 1e-5 * sum);
                EXPECT_LE(drawn == 0 ? 0 : sums[drawn - 1], target + 1e-5 * sum);
            }
        }
        set_num_threads(1);
    }
}

TEST(Categorical, RowsWithoutAFiniteChoiceFail) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const float bad : {-INFINITY, NAN, INFINITY}) {
            TestTensor logits(DType::f32, {2, 40}), out(DType::i64, {2});
            logits.fill([&](std::int64_t i) {
                return i < 40                                    ? 0.0
                       : (std::isinf(bad) && bad < 0) || i == 70 ? static_cast<double>(bad)
                                                                 : 1.0;
            });
            EXPECT_EQ(cpu_kernel_table(isa).categorical({}, logits.view(), kKey, out.view()),
                      kKernelFailed);
        }
    }
}

}  // namespace
}  // namespace tempra
