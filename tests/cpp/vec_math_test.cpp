// Vector mathematics of every ISA against the C library in double, in units in the last place,
// reached through the elementwise kernels.
#include <gtest/gtest.h>

#include <functional>

#include "test_tensor.h"

namespace tempra {
namespace {

using testing::isas_of_this_machine;
using testing::TestTensor;

// Distance in units of the last place of `want` as a float; results below the normal range count
// by the smallest normal number's unit.
double units_apart(double got, double want) {
    if (std::isnan(want)) return std::isnan(got) ? 0 : INFINITY;
    const double rounded = static_cast<double>(static_cast<float>(want));
    if (got == rounded) return 0;
    if (std::isinf(rounded) || std::isinf(got)) return INFINITY;
    const int exponent = std::max(std::ilogb(want == 0 ? 0x1p-126 : want), -126);
    return std::abs(got - want) / std::ldexp(1.0, exponent - 23);
}

// Every n-th float of [low, high], both ends included.
std::vector<float> sweep(float low, float high, std::int64_t count) {
    const auto order = [](float x) {
        const auto raw = std::bit_cast<std::int32_t>(x);
        return static_cast<std::int64_t>(raw < 0 ? INT32_MIN - raw : raw);
    };
    const std::int64_t first = order(low), last = order(high);
    std::vector<float> values;
    for (std::int64_t i = 0; i <= count; ++i) {
        const auto at = static_cast<std::int32_t>(first + (last - first) * i / count);
        values.push_back(std::bit_cast<float>(at < 0 ? INT32_MIN - at : at));
    }
    return values;
}

struct MathCase {
    UnaryOp op;
    const char* name;
    float low, high;
    double limit;  // units in the last place
    std::function<double(double)> value;
};

const std::vector<MathCase>& math_cases() {
    static const std::vector<MathCase> cases = {
        {UnaryOp::exp, "exp", -87.3F, 88.7F, 2, [](double x) { return std::exp(x); }},
        {UnaryOp::log, "log", 1e-45F, 3e38F, 2, [](double x) { return std::log(x); }},
        {UnaryOp::log, "log near 1", 0.9F, 1.1F, 2, [](double x) { return std::log(x); }},
        {UnaryOp::log1p, "log1p", -0.99999994F, 3e38F, 2, [](double x) { return std::log1p(x); }},
        {UnaryOp::expm1, "expm1", -120, 88.7F, 2, [](double x) { return std::expm1(x); }},
        {UnaryOp::tanh, "tanh", -20, 20, 2, [](double x) { return std::tanh(x); }},
        {UnaryOp::erf, "erf", -10, 10, 2, [](double x) { return std::erf(x); }},
        {UnaryOp::sin, "sin", -1e5F, 1e5F, 2, [](double x) { return std::sin(x); }},
        {UnaryOp::cos, "cos", -1e5F, 1e5F, 2, [](double x) { return std::cos(x); }},
        {UnaryOp::sin, "sin of large", 1e5F, 3e38F, 2, [](double x) { return std::sin(x); }},
        {UnaryOp::cos, "cos of large", -3e38F, -1e5F, 2, [](double x) { return std::cos(x); }},
        {UnaryOp::sqrt, "sqrt", 0, 3e38F, 0.5, [](double x) { return std::sqrt(x); }},
        {UnaryOp::rsqrt, "rsqrt", 1e-38F, 3e38F, 1.5, [](double x) { return 1 / std::sqrt(x); }},
        {UnaryOp::floor, "floor", -1e9F, 1e9F, 0, [](double x) { return std::floor(x); }},
        {UnaryOp::ceil, "ceil", -1e9F, 1e9F, 0, [](double x) { return std::ceil(x); }},
        {UnaryOp::round, "round", -1e9F, 1e9F, 0, [](double x) { return std::nearbyint(x); }},
    };
    return cases;
}

TEST(VecMath, WithinTwoUnitsInTheLastPlace) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const MathCase& test : math_cases()) {
            const std::vector<float> inputs = sweep(test.low, test.high, 400'000);
            const auto count = static_cast<std::int64_t>(inputs.size());
            TestTensor in(DType::f32, {count}), out(DType::f32, {count});
            std::copy(inputs.begin(), inputs.end(), in.view().as<float>());
            ASSERT_EQ(cpu_kernel_table(isa).unary({}, test.op, in.view(), out.view()), kKernelOk);
            double worst = 0, at = 0;
            for (std::int64_t i = 0; i < count; ++i) {
                const double x = in.get(i), units = units_apart(out.get(i), test.value(x));
                if (units > worst) {
                    worst = units;
                    at = x;
                }
            }
            EXPECT_LE(worst, test.limit) << cpu::name_of(isa) << " " << test.name << " at " << at;
        }
    }
}

TEST(VecMath, SpecialValuesAreTheCLibrarys) {
    const float inf = INFINITY, nan = NAN;
    const std::vector<float> inputs = {0.0F,    -0.0F,  inf,   -inf, nan,   1.0F, -1.0F, 1e-45F,
                                       -1e-45F, 1e-38F, -2.0F, 0.5F, -0.5F, 1.5F, 2.5F};
    const auto count = static_cast<std::int64_t>(inputs.size());
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const MathCase& test : math_cases()) {
            TestTensor in(DType::f32, {count}), out(DType::f32, {count});
            in.fill([&](std::int64_t i) { return inputs[static_cast<size_t>(i)]; });
            cpu_kernel_table(isa).unary({}, test.op, in.view(), out.view());
            for (std::int64_t i = 0; i < count; ++i) {
                const double want = test.value(in.get(i));
                EXPECT_LE(units_apart(out.get(i), want), 2)
                    << cpu::name_of(isa) << " " << test.name << "(" << in.get(i)
                    << ") = " << out.get(i) << ", want " << want;
                if (want == 0) {
                    EXPECT_EQ(std::signbit(out.get(i)), std::signbit(want))
                        << test.name << "(" << in.get(i) << ")";
                }
            }
        }
    }
}

TEST(VecMath, PowMatchesTheCLibrary) {
    std::mt19937 engine(1);
    std::vector<float> special = {0.0F,  -0.0F,  INFINITY, -INFINITY, NAN,        1,
                                  -1,    2,      -2,       3,         -3,         0.5F,
                                  -0.5F, 1e-45F, 1e30F,    -1e30F,    16777217.0F};
    std::vector<std::pair<float, float>> pairs;
    for (const float x : special) {
        for (const float y : special) pairs.emplace_back(x, y);
    }
    std::uniform_real_distribution<float> exponent(-60, 60), base(-30, 30);
    for (int i = 0; i < 200'000; ++i)
        pairs.emplace_back(std::exp2(base(engine)), exponent(engine) / 20);
    for (int i = 0; i < 50'000; ++i)
        pairs.emplace_back(base(engine), std::round(exponent(engine) / 4));
    const auto count = static_cast<std::int64_t>(pairs.size());
    TestTensor x(DType::f32, {count}), y(DType::f32, {count}), out(DType::f32, {count});
    x.fill([&](std::int64_t i) { return pairs[static_cast<size_t>(i)].first; });
    y.fill([&](std::int64_t i) { return pairs[static_cast<size_t>(i)].second; });
    for (const cpu::Isa isa : isas_of_this_machine()) {
        ASSERT_EQ(cpu_kernel_table(isa).binary({}, BinaryOp::power, x.view(), y.view(), out.view()),
                  kKernelOk);
        for (std::int64_t i = 0; i < count; ++i) {
            const double want = std::pow(x.get(i), y.get(i));
            ASSERT_LE(units_apart(out.get(i), want), 1)
                << cpu::name_of(isa) << ": pow(" << x.get(i) << ", " << y.get(i)
                << ") = " << out.get(i) << ", want " << want;
            if (want == 0) {
                ASSERT_EQ(std::signbit(out.get(i)), std::signbit(want))
                    << x.get(i) << " " << y.get(i);
            }
        }
    }
}

}  // namespace
}  // namespace tempra
