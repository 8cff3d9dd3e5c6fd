// The vector forms against the C library in double, on the baseline vector width (the other widths
// are covered by the kernels that use them).
#define TEMPRA_ISA baseline
#include "simd/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "reference_activation.h"

namespace tempra {
namespace {

namespace isa = cpu::baseline;

template <class A>
A forward(Activation kind, A x) {
    return isa::activate<A>(kind, isa::broadcast<A>(x))[0];
}
template <class A>
A derivative(Activation kind, A x) {
    return isa::activation_derivative<A>(kind, isa::broadcast<A>(x))[0];
}

class ActivationCase : public testing::TestWithParam<Activation> {};

TEST_P(ActivationCase, FloatMatchesDouble) {
    for (double x = -14; x <= 14; x += 0.00137) {
        const float given = static_cast<float>(x);
        const double expected = reference_activation(GetParam(), given);
        EXPECT_NEAR(forward<float>(GetParam(), given), expected, 2e-7 * std::fmax(1, std::abs(x)))
            << x;
        EXPECT_NEAR(derivative<float>(GetParam(), given),
                    reference_activation_derivative(GetParam(), given), 6e-7)
            << x;
    }
}

// gelu(-4) is 1.3e-4: an absolute error that suits gelu(4) would be large here.
TEST_P(ActivationCase, FloatTailKeepsRelativeAccuracy) {
    if (GetParam() == Activation::gelu_tanh) return;  // the reference itself cancels there
    for (double x = -8; x < -0.5; x += 0.013) {
        const float given = static_cast<float>(x);
        const double expected = reference_activation(GetParam(), given);
        EXPECT_NEAR(forward<float>(GetParam(), given), expected, 4e-6 * std::abs(expected)) << x;
    }
}

TEST_P(ActivationCase, DoubleMatchesReference) {
    for (double x = -14; x <= 14; x += 0.0173) {
        EXPECT_NEAR(forward<double>(GetParam(), x), reference_activation(GetParam(), x), 1e-14)
            << x;
        EXPECT_NEAR(derivative<double>(GetParam(), x),
                    reference_activation_derivative(GetParam(), x), 1e-14)
            << x;
    }
}

TEST_P(ActivationCase, ExtremesAreExact) {
    const float infinity = std::numeric_limits<float>::infinity();
    const bool identity = GetParam() == Activation::none;
    for (const float large : {200.0F, 1e10F, 1e20F, 3e38F}) {
        EXPECT_EQ(forward<float>(GetParam(), large), large);
        EXPECT_EQ(forward<float>(GetParam(), -large), identity ? -large : 0.0F);
        EXPECT_EQ(derivative<float>(GetParam(), large), 1.0F);
        EXPECT_EQ(derivative<float>(GetParam(), -large), identity ? 1.0F : 0.0F);
    }
    EXPECT_EQ(forward<float>(GetParam(), infinity), infinity);
    EXPECT_EQ(derivative<float>(GetParam(), infinity), 1.0F);
    EXPECT_EQ(forward<float>(GetParam(), 0.0F), 0.0F);
}

TEST_P(ActivationCase, NanPropagates) {
    EXPECT_TRUE(std::isnan(forward<float>(GetParam(), std::nanf(""))));
    EXPECT_TRUE(std::isnan(forward<double>(GetParam(), std::nan(""))));
    if (GetParam() == Activation::silu || GetParam() == Activation::gelu ||
        GetParam() == Activation::gelu_tanh) {
        EXPECT_TRUE(std::isnan(derivative<float>(GetParam(), std::nanf(""))));
    }
}

std::string case_name(const testing::TestParamInfo<Activation>& test) {
    const char* names[] = {"none", "relu", "silu", "gelu", "gelu_tanh"};
    return names[static_cast<int>(test.param)];
}

INSTANTIATE_TEST_SUITE_P(All, ActivationCase,
                         testing::Values(Activation::none, Activation::relu, Activation::silu,
                                         Activation::gelu, Activation::gelu_tanh),
                         case_name);

}  // namespace
}  // namespace tempra
