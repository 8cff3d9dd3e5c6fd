// Elementwise kernels of every ISA against plain double references, over layouts.
#include <gtest/gtest.h>

#include <functional>

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

const std::vector<Sizes> kShapes = {{},       {1},        {17},          {0, 3},     {5, 3},
                                    {3, 100}, {2, 3, 65}, {4, 1, 33, 2}, {2, 40000}, {70, 7, 9}};

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_tanh_argument(double x) { return std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

struct UnaryCase {
    UnaryOp op;
    const char* name;
    double low, high;  // domain
    std::function<double(double)> value, derivative;
    double absolute = 0.0;  // error allowed where the result is near 0
};

const std::vector<UnaryCase>& unary_cases() {
    static const std::vector<UnaryCase> cases = {
        {UnaryOp::negative, "negative", -9, 9, [](double x) { return -x; },
         [](double) { return -1.0; }},
        {UnaryOp::absolute, "absolute", -9, 9, [](double x) { return std::abs(x); },
         [](double x) { return x > 0   ? 1.0
                               : x < 0 ? -1.0
                                       : 0.0; }},
        {UnaryOp::exp, "exp", -20, 20, [](double x) { return std::exp(x); },
         [](double x) { return std::exp(x); }},
        {UnaryOp::log, "log", 1e-3, 50, [](double x) { return std::log(x); },
         [](double x) { return 1 / x; }},
        {UnaryOp::log1p, "log1p", -0.9, 20, [](double x) { return std::log1p(x); },
         [](double x) { return 1 / (1 + x); }},
        {UnaryOp::expm1, "expm1", -9, 9, [](double x) { return std::expm1(x); },
         [](double x) { return std::exp(x); }},
        {UnaryOp::sqrt, "sqrt", 0.01, 50, [](double x) { return std::sqrt(x); },
         [](double x) { return 0.5 / std::sqrt(x); }},
        {UnaryOp::rsqrt, "rsqrt", 0.01, 50, [](double x) { return 1 / std::sqrt(x); },
         [](double x) { return -0.5 / (x * std::sqrt(x)); }},
        {UnaryOp::reciprocal, "reciprocal", 0.1, 9, [](double x) { return 1 / x; },
         [](double x) { return -1 / (x * x); }},
        {UnaryOp::square, "square", -9, 9, [](double x) { return x * x; },
         [](double x) { return 2 * x; }},
        {UnaryOp::sin, "sin", -30, 30, [](double x) { return std::sin(x); },
         [](double x) { return std::cos(x); }},
        {UnaryOp::cos, "cos", -30, 30, [](double x) { return std::cos(x); },
         [](double x) { return -std::sin(x); }},
        {UnaryOp::tanh, "tanh", -5, 5, [](double x) { return std::tanh(x); },
         [](double x) { return 1 - std::tanh(x) * std::tanh(x); }, 2e-7},
        {UnaryOp::erf, "erf", -4, 4, [](double x) { return std::erf(x); },
         [](double x) { return 2 / std::sqrt(M_PI) * std::exp(-x * x); }, 2e-7},
        {UnaryOp::sigmoid, "sigmoid", -9, 9, sigmoid,
         [](double x) { return sigmoid(x) * sigmoid(-x); }, 2e-7},
        {UnaryOp::relu, "relu", -9, 9, [](double x) { return x > 0 ? x : 0.0; },
         [](double x) { return x > 0 ? 1.0 : 0.0; }},
        {UnaryOp::silu, "silu", -9, 9, [](double x) { return x * sigmoid(x); },
         [](double x) { return sigmoid(x) * (1 + x * sigmoid(-x)); }, 1e-6},
        {UnaryOp::softplus, "softplus", -9, 9, [](double x) { return std::log1p(std::exp(x)); },
         sigmoid, 1e-7},
        {UnaryOp::gelu, "gelu", -6, 6, [](double x) { return x * normal_cdf(x); },
         [](double x) { return normal_cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); },
         1e-6},
        {UnaryOp::gelu_tanh, "gelu_tanh", -6, 6,
         [](double x) { return 0.5 * x * (1 + std::tanh(gelu_tanh_argument(x))); },
         [](double x) {
             const double t = std::tanh(gelu_tanh_argument(x));
             const double slope = std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
             return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope;
         },
         1e-6},
        {UnaryOp::sign, "sign", -2, 2, [](double x) { return x > 0   ? 1.0
                                                             : x < 0 ? -1.0
                                                                     : 0.0; },
         [](double) { return 0.0; }},
        {UnaryOp::floor, "floor", -9, 9, [](double x) { return std::floor(x); },
         [](double) { return 0.0; }},
        {UnaryOp::ceil, "ceil", -9, 9, [](double x) { return std::ceil(x); },
         [](double) { return 0.0; }},
        {UnaryOp::round, "round", -9, 9, [](double x) { return std::nearbyint(x); },
         [](double) { return 0.0; }},
    };
    return cases;
}

// f32 and bf16 share the f32 algorithms (a few roundings); f64 goes through the C library.
double allowed(DType dtype) { return tolerance_of(dtype, dtype == DType::f64 ? 16 : 8); }

void check_unary(const KernelTable& table, const UnaryCase& test, DType dtype, const Sizes& sizes,
                 Layout in_layout, Layout out_layout) {
    TestTensor in(dtype, sizes, in_layout), out(dtype, sizes, out_layout);
    TestTensor grad_out(dtype, sizes, out_layout), grad_in(dtype, sizes, in_layout);
    in.fill_uniform(7, test.low, test.high);
    grad_out.fill_normal(8);
    ASSERT_EQ(table.unary({}, test.op, in.view(), out.view()), kKernelOk);
    ASSERT_EQ(
        table.unary_backward({}, test.op, in.view(), out.view(), grad_out.view(), grad_in.view()),
        kKernelOk);
    // In f64 the references themselves cancel (1 + tanh near -1).
    const double absolute = dtype == DType::f64 ? 1e-14 : test.absolute;
    // Derivatives in bf16 start from the rounded output.
    const double slack = dtype == DType::bf16 ? 4 : 1;
    for (std::int64_t i = 0; i < in.numel(); ++i) {
        const double x = in.get(i);
        ASSERT_TRUE(agrees(out.get(i), test.value(x), allowed(dtype), absolute))
            << "x = " << x << ": " << out.get(i) << ", want " << test.value(x);
        const double want = grad_out.get(i) * test.derivative(x);
        const double floor = (dtype == DType::bf16 ? 0x1p-7 : absolute) * std::abs(grad_out.get(i));
        ASSERT_TRUE(agrees(grad_in.get(i), want, slack * allowed(dtype), floor))
            << "derivative at " << x << ": " << grad_in.get(i) << ", want " << want;
    }
}

TEST(Elementwise, UnaryAndDerivativeMatchReference) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const UnaryCase& test : unary_cases()) {
                SCOPED_TRACE(std::string(cpu::name_of(isa)) + " " + name_of(dtype) + " " +
                             test.name);
                const KernelTable& table = cpu_kernel_table(isa);
                check_unary(table, test, dtype, {3, 517}, Layout::contiguous, Layout::contiguous);
                check_unary(table, test, dtype, {31, 9}, Layout::transposed, Layout::contiguous);
                check_unary(table, test, dtype, {5, 70}, Layout::contiguous, Layout::spaced);
                if (HasFatalFailure()) return;
            }
        }
    }
}

TEST(Elementwise, UnaryHandlesEveryShapeAndLayout) {
    const UnaryCase& square = unary_cases()[9];
    ASSERT_EQ(square.op, UnaryOp::square);
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const Sizes& sizes : kShapes) {
            for (const Layout in : {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                for (const Layout out : {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                    check_unary(cpu_kernel_table(isa), square, DType::f32, sizes, in, out);
                    if (HasFatalFailure()) return;
                }
            }
        }
    }
}

TEST(Elementwise, UnaryHandlesInfinitiesAndNaN) {
    const double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> inputs = {inf, -inf, std::nan(""), 0.0, -0.0};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const UnaryCase& test : unary_cases()) {
            SCOPED_TRACE(std::string(cpu::name_of(isa)) + " " + test.name);
            TestTensor in(DType::f32, {5}), out(DType::f32, {5});
            in.fill([&](std::int64_t i) { return inputs[static_cast<size_t>(i)]; });
            cpu_kernel_table(isa).unary({}, test.op, in.view(), out.view());
            for (std::int64_t i = 0; i < 5; ++i) {
                const double x = in.get(i);
                double want = test.value(x);
                if (test.op == UnaryOp::relu || test.op == UnaryOp::sign)
                    want = std::isnan(x) ? x : want;
                if (test.op == UnaryOp::softplus && x == inf) want = inf;
                // x * 0 at minus infinity, and inf - inf inside gelu_tanh's cubic.
                if (x == -inf && (test.op == UnaryOp::gelu_tanh || test.op == UnaryOp::gelu))
                    continue;
                EXPECT_TRUE(agrees(out.get(i), want, 1e-6))
                    << x << ": " << out.get(i) << ", want " << want;
            }
        }
    }
}

TEST(Elementwise, TestsGiveTruthValues) {
    const double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> inputs = {0.0, -0.0, 1.5, inf, -inf, std::nan(""), 3e38};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            TestTensor in(dtype, {7}), out(DType::boolean, {7});
            in.fill([&](std::int64_t i) { return inputs[static_cast<size_t>(i)]; });
            const KernelTable& table = cpu_kernel_table(isa);
            for (std::int64_t i = 0; i < 7; ++i) {
                const double x = in.get(i);
                ASSERT_EQ(table.unary({}, UnaryOp::logical_not, in.view(), out.view()), kKernelOk);
                EXPECT_EQ(out.get(i), x == 0);
                ASSERT_EQ(table.unary({}, UnaryOp::is_finite, in.view(), out.view()), kKernelOk);
                EXPECT_EQ(out.get(i), std::isfinite(x));
                ASSERT_EQ(table.unary({}, UnaryOp::is_nan, in.view(), out.view()), kKernelOk);
                EXPECT_EQ(out.get(i), std::isnan(x));
            }
        }
    }
}

TEST(Elementwise, UnaryWorksInPlaceAndOnAnyNumberOfThreads) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        const KernelTable& table = cpu_kernel_table(isa);
        TestTensor in(DType::f32, {3, 50001}, Layout::spaced), expected(in);
        in.fill_normal(1);
        set_num_threads(1);
        table.unary({}, UnaryOp::gelu, in.view(), expected.view());
        for (const int threads : {1, 2, 3}) {
            set_num_threads(threads);
            TestTensor copy(in);
            table.unary({}, UnaryOp::gelu, copy.view(), copy.view());
            EXPECT_EQ(copy.bytes(), expected.bytes());
        }
        set_num_threads(1);
    }
}

TEST(Elementwise, DerivativeNeedsOnlyTheOperandItIsWrittenIn) {
    const KernelTable& table = cpu_kernel_table(cpu::Isa::baseline);
    TestTensor x(DType::f32, {4}), gradient(DType::f32, {4});
    x.fill_normal(3);
    const TensorView absent;
    EXPECT_EQ(table.unary_backward({}, UnaryOp::exp, absent, x.view(), x.view(), gradient.view()),
              kKernelOk);
    EXPECT_EQ(table.unary_backward({}, UnaryOp::log, x.view(), absent, x.view(), gradient.view()),
              kKernelOk);
    EXPECT_EQ(table.unary_backward({}, UnaryOp::log, absent, x.view(), x.view(), gradient.view()),
              kKernelFailed);
}

TEST(Elementwise, UnsupportedDtypesAreRefused) {
    const KernelTable& table = cpu_kernel_table(cpu::Isa::baseline);
    TestTensor a(DType::u16, {4}), b(DType::u16, {4}), f(DType::f32, {4});
    EXPECT_EQ(table.unary({}, UnaryOp::exp, a.view(), b.view()), kKernelUnsupportedDtype);
    EXPECT_EQ(table.unary({}, UnaryOp::exp, f.view(), b.view()), kKernelUnsupportedDtype);
    EXPECT_EQ(table.binary({}, BinaryOp::add, a.view(), a.view(), b.view()),
              kKernelUnsupportedDtype);
    EXPECT_EQ(table.binary({}, BinaryOp::less, f.view(), f.view(), f.view()),
              kKernelUnsupportedDtype);
}

}  // namespace
}  // namespace tempra
