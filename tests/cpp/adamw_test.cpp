// The arena kernels (sum_of_squares, prepare_step, adamw) on every ISA against plain loops in
// double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernel_array.h"
#include "tempra/threads.h"

namespace tempra::testing_support {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_values(std::int64_t count, unsigned seed, float deviation = 1) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = normal(engine);
    return values;
}

class ArenaKernels : public testing::TestWithParam<cpu::Isa> {
  protected:
    [[nodiscard]] const KernelTable& table() const { return cpu_kernel_table(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(EveryIsa, ArenaKernels, testing::ValuesIn(runnable_isas()),
                         [](const auto& info) { return cpu::name_of(info.param); });

// Small ones, one across several chunks, gaps, a frozen one and an empty one.
const std::vector<ArenaSegment> kSegments = {{3, 1, 0, 0},       {4, 17, 1, 0},
                                             {32, 200001, 0, 0}, {200040, 100, 1, 1},
                                             {200140, 0, 0, 0},  {200160, 70003, 1, 0}};
constexpr std::int64_t kArena = 270200;

TEST_P(ArenaKernels, SumOfSquares) {
    const std::vector<float> data = normal_values(kArena, 1);
    long double want = 0;
    for (const ArenaSegment& s : kSegments) {
        for (std::int64_t i = s.offset; s.frozen == 0 && i < s.offset + s.length; ++i) {
            want += static_cast<long double>(data[static_cast<size_t>(i)]) *
                    data[static_cast<size_t>(i)];
        }
    }
    double first = 0;
    const int before = num_threads();
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        double got = -1;
        ASSERT_EQ(table().sum_of_squares({}, data.data(), kSegments.data(),
                                         static_cast<std::int64_t>(kSegments.size()), &got),
                  kKernelOk);
        EXPECT_NEAR(got, static_cast<double>(want), 1e-12 * static_cast<double>(want));
        if (threads == 1) first = got;
        EXPECT_EQ(got, first) << threads << " threads";
    }
    set_num_threads(before);
}

TEST_P(ArenaKernels, SumOfSquaresOfExtremes) {
    std::vector<float> data = {1e30F, 2e30F, kNan, kInfinity};
    double got = 0;
    const ArenaSegment large = {0, 2, 0, 0}, all = {0, 4, 0, 0}, infinite = {3, 1, 0, 0};
    ASSERT_EQ(table().sum_of_squares({}, data.data(), &large, 1, &got), kKernelOk);
    EXPECT_NEAR(got, 5e60, 1e54);  // no overflow in between
    ASSERT_EQ(table().sum_of_squares({}, data.data(), &all, 1, &got), kKernelOk);
    EXPECT_TRUE(std::isnan(got));
    ASSERT_EQ(table().sum_of_squares({}, data.data(), &infinite, 1, &got), kKernelOk);
    EXPECT_TRUE(std::isinf(got));
    ASSERT_EQ(table().sum_of_squares({}, data.data(), nullptr, 0, &got), kKernelOk);
    EXPECT_EQ(got, 0);
}

TEST_P(ArenaKernels, UnsortedSegmentsAreRefused) {
    std::vector<float> data(10);
    double got = 0;
    const ArenaSegment backwards[] = {{5, 5, 0, 0}, {0, 5, 0, 0}},
                       overlap[] = {{0, 5, 0, 0}, {4, 5, 0, 0}};
    EXPECT_EQ(table().sum_of_squares({}, data.data(), backwards, 2, &got), kKernelFailed);
    EXPECT_EQ(table().sum_of_squares({}, data.data(), overlap, 2, &got), kKernelFailed);
}

StepScalars scalars_with(float gradient_scale, float max_norm) {
    StepScalars s{};
    s.step_count = 4;
    s.learning_rate = 0.01F;
    s.gradient_scale = gradient_scale;
    s.max_gradient_norm = max_norm;
    return s;
}

TEST_P(ArenaKernels, PrepareStepClipsAsTorchDoes) {
    const double sum = 16;
    StepScalars s = scalars_with(0.5F, 1);
    ASSERT_EQ(table().prepare_step({}, &sum, &s), kKernelOk);
    EXPECT_FLOAT_EQ(s.gradient_norm, 2);
    EXPECT_FLOAT_EQ(s.clip_coefficient, 1 / (2 + 1e-6F));
    EXPECT_EQ(s.step_count, 5);
    EXPECT_EQ(s.skip, 0);
    s = scalars_with(0.5F, 3);
    ASSERT_EQ(table().prepare_step({}, &sum, &s), kKernelOk);
    EXPECT_EQ(s.clip_coefficient, 1);
    s = scalars_with(0.5F, 0);  // 0 switches clipping off
    ASSERT_EQ(table().prepare_step({}, &sum, &s), kKernelOk);
    EXPECT_EQ(s.clip_coefficient, 1);
}

TEST_P(ArenaKernels, PrepareStepSkipsWhatIsNotFinite) {
    StepScalars s = scalars_with(1, 1);
    for (const double bad : {static_cast<double>(kNan), static_cast<double>(kInfinity), 1e300}) {
        ASSERT_EQ(table().prepare_step({}, &bad, &s), kKernelOk);
        EXPECT_NE(s.skip, 0);
        EXPECT_EQ(s.step_count, 4);
    }
    EXPECT_EQ(s.skipped_in_a_row, 3);
    EXPECT_EQ(s.skipped_total, 3);
    const double good = 1;
    ASSERT_EQ(table().prepare_step({}, &good, &s), kKernelOk);
    EXPECT_EQ(s.skip, 0);
    EXPECT_EQ(s.step_count, 5);
    EXPECT_EQ(s.skipped_in_a_row, 0);
    EXPECT_EQ(s.skipped_total, 3);
}

TEST_P(ArenaKernels, LossScaleIsTakenOutOfGradients) {
    const double sum = 16.0 * 65536.0 * 65536.0;
    StepScalars s = scalars_with(0.5F, 1);
    s.loss_scale = 65536;
    ASSERT_EQ(table().prepare_step({}, &sum, &s), kKernelOk);
    EXPECT_FLOAT_EQ(s.gradient_norm, 2);
    EXPECT_FLOAT_EQ(s.clip_coefficient, 1 / (2 + 1e-6F) / 65536);
    EXPECT_EQ(s.loss_scale, 65536);
    EXPECT_EQ(s.clean_steps, 1);
}

TEST_P(ArenaKernels, LossScaleDoublesAfterCleanStepsAndHalvesOnOverflow) {
    const double good = 1, bad = static_cast<double>(kInfinity);
    StepScalars s = scalars_with(1, 0);
    s.loss_scale = 65536;
    for (int step = 1; step < 2000; ++step) {
        ASSERT_EQ(table().prepare_step({}, &good, &s), kKernelOk);
        ASSERT_EQ(s.loss_scale, 65536) << step;
    }
    ASSERT_EQ(table().prepare_step({}, &good, &s), kKernelOk);
    EXPECT_EQ(s.loss_scale, 2 * 65536);
    EXPECT_EQ(s.clean_steps, 0);
    EXPECT_EQ(s.clip_coefficient, 1.0F / 65536) << "of the step that was made";
    ASSERT_EQ(table().prepare_step({}, &good, &s), kKernelOk);
    for (int overflow = 1; overflow <= 20; ++overflow) {
        ASSERT_EQ(table().prepare_step({}, &bad, &s), kKernelOk);
        EXPECT_EQ(s.loss_scale, std::max(1.0F, std::ldexp(1.0F, 17 - overflow)));
        EXPECT_EQ(s.skip, 1);
        EXPECT_EQ(s.clean_steps, 0);
    }
    EXPECT_EQ(s.skipped_in_a_row, 20);
    EXPECT_EQ(s.step_count, 4 + 2001);
    s = scalars_with(1, 0);
    ASSERT_EQ(table().prepare_step({}, &bad, &s), kKernelOk);
    EXPECT_EQ(s.loss_scale, 0) << "off";
    EXPECT_EQ(s.clean_steps, 0);
}

const std::vector<AdamWGroup> kGroups = {{1.0F, 0.1F, 0.9F, 0.95F, 1e-8F},
                                         {0.5F, 0.0F, 0.8F, 0.999F, 1e-6F}};

struct Arena {
    std::vector<float> p = normal_values(kArena, 1), g = normal_values(kArena, 2, 0.1F);
    std::vector<float> m = std::vector<float>(kArena), v = std::vector<float>(kArena);
    std::vector<bfloat16> low = std::vector<bfloat16>(kArena, bfloat16{0x1234});
    StepScalars scalars = scalars_with(0.5F, 1);

    Arena() {
        scalars.step_count = 0;
        scalars.clip_coefficient = 0.25F;
    }
    [[nodiscard]] AdamWArguments arguments(bool with_low = true) {
        return {p.data(),
                g.data(),
                m.data(),
                v.data(),
                with_low ? low.data() : nullptr,
                kSegments.data(),
                static_cast<std::int64_t>(kSegments.size()),
                kGroups.data(),
                &scalars};
    }
};

// torch.optim.AdamW's single-tensor loop, in double.
void reference_step(const Arena& a, double step, std::vector<double>& p, std::vector<double>& m,
                    std::vector<double>& v) {
    for (const ArenaSegment& s : kSegments) {
        if (s.frozen != 0) continue;
        const AdamWGroup& group = kGroups[static_cast<size_t>(s.group)];
        const double rate =
            static_cast<double>(a.scalars.learning_rate) * group.learning_rate_scale;
        const double beta1 = group.beta1, beta2 = group.beta2;
        for (std::int64_t k = s.offset; k < s.offset + s.length; ++k) {
            const auto i = static_cast<size_t>(k);
            const double g = static_cast<double>(a.g[i]) * 0.5 * 0.25;
            p[i] *= 1 - rate * group.weight_decay;
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            const double denominator =
                std::sqrt(v[i]) / std::sqrt(1 - std::pow(beta2, step)) + group.epsilon;
            p[i] -= rate / (1 - std::pow(beta1, step)) * m[i] / denominator;
        }
    }
}

TEST_P(ArenaKernels, AdamWFollowsTheFormula) {
    Arena a;
    const Arena initial;
    std::vector<double> p(a.p.begin(), a.p.end()), m(p.size()), v(p.size());
    for (int step = 1; step <= 5; ++step) {
        a.g = normal_values(kArena, 10 + static_cast<unsigned>(step), 0.1F);
        a.scalars.step_count = step;
        reference_step(a, step, p, m, v);
        ASSERT_EQ(table().adamw({}, a.arguments()), kKernelOk);
    }
    std::vector<bool> touched(p.size());
    for (const ArenaSegment& s : kSegments) {
        for (std::int64_t i = s.offset; s.frozen == 0 && i < s.offset + s.length; ++i) {
            touched[static_cast<size_t>(i)] = true;
        }
    }
    for (size_t i = 0; i < p.size(); ++i) {
        if (!touched[i]) {
            ASSERT_EQ(a.p[i], initial.p[i]) << i;
            ASSERT_EQ(a.m[i], 0) << i;
            ASSERT_EQ(a.low[i].bits, 0x1234) << i;
            continue;
        }
        ASSERT_NEAR(a.p[i], p[i], 1e-6 * std::max(1.0, std::abs(p[i]))) << i;
        ASSERT_NEAR(a.m[i], m[i], 1e-6 * std::abs(m[i]) + 1e-9) << i;
        ASSERT_NEAR(a.v[i], v[i], 1e-6 * std::abs(v[i]) + 1e-12) << i;
        ASSERT_EQ(a.low[i].bits, bfloat16::from_float(a.p[i]).bits) << i;
    }
}

TEST_P(ArenaKernels, AdamWIsTheSameForAnyThreadCountAndWithoutTheCopy) {
    const int before = num_threads();
    Arena first;
    first.scalars.step_count = 1;
    set_num_threads(1);
    ASSERT_EQ(table().adamw({}, first.arguments()), kKernelOk);
    for (const int threads : {2, 3}) {
        set_num_threads(threads);
        Arena other;
        other.scalars.step_count = 1;
        ASSERT_EQ(table().adamw({}, other.arguments(threads == 2)), kKernelOk);
        EXPECT_EQ(first.p, other.p);
        EXPECT_EQ(first.m, other.m);
        EXPECT_EQ(first.v, other.v);
    }
    set_num_threads(before);
}

TEST_P(ArenaKernels, SkippedStepsChangeNothing) {
    Arena a;
    const Arena initial;
    a.g.assign(a.g.size(), kNan);
    a.scalars.skip = 1;
    ASSERT_EQ(table().adamw({}, a.arguments()), kKernelOk);
    EXPECT_EQ(a.p, initial.p);
    EXPECT_EQ(a.m, initial.m);
    EXPECT_EQ(a.v, initial.v);
    EXPECT_EQ(a.low[5].bits, 0x1234);
}

// Moments without gradients decay to 0, not through the denormals; the mode does not leak out.
TEST_P(ArenaKernels, DenormalMomentsBecomeZero) {
    Arena a;
    a.scalars.step_count = 100;
    a.g.assign(a.g.size(), 0.0F);
    a.m.assign(a.m.size(), 1.2e-38F);
    a.v.assign(a.v.size(), 1.2e-38F);
    ASSERT_EQ(table().adamw({}, a.arguments()), kKernelOk);
    EXPECT_EQ(a.m[100], 0.0F);
    EXPECT_EQ(a.v[100], 0.0F);
    volatile float tiny = 1.2e-38F;
    EXPECT_GT(tiny * 0.5F, 0.0F);
}

}  // namespace
}  // namespace tempra::testing_support
