// Binary kernels, where and clamp of every ISA against plain references, with broadcasting.
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

double maximum_or_nan(double a, double b) {
    return std::isnan(a) || std::isnan(b) ? std::nan("") : std::max(a, b);
}
double minimum_or_nan(double a, double b) {
    return std::isnan(a) || std::isnan(b) ? std::nan("") : std::min(a, b);
}

struct BinaryCase {
    BinaryOp op;
    std::function<double(double, double)> value;
};

const std::vector<BinaryCase>& arithmetic_cases() {
    static const std::vector<BinaryCase> cases = {
        {BinaryOp::add, std::plus<>()},
        {BinaryOp::subtract, std::minus<>()},
        {BinaryOp::multiply, std::multiplies<>()},
        {BinaryOp::divide, std::divides<>()},
        {BinaryOp::power, [](double a, double b) { return std::pow(a, b); }},
        {BinaryOp::maximum, maximum_or_nan},
        {BinaryOp::minimum, minimum_or_nan},
    };
    return cases;
}
const std::vector<BinaryCase>& comparison_cases() {
    static const std::vector<BinaryCase> cases = {
        {BinaryOp::equal, std::equal_to<>()},  {BinaryOp::not_equal, std::not_equal_to<>()},
        {BinaryOp::less, std::less<>()},       {BinaryOp::less_equal, std::less_equal<>()},
        {BinaryOp::greater, std::greater<>()}, {BinaryOp::greater_equal, std::greater_equal<>()},
    };
    return cases;
}

// The largest size of each dimension.
Sizes broadcast(const Sizes& a, const Sizes& b) {
    Sizes sizes = a;
    for (size_t d = 0; d < a.size(); ++d) sizes[d] = a[d] == 1 ? b[d] : a[d];
    return sizes;
}

void check_binary(const KernelTable& table, const BinaryCase& test, const TestTensor& a,
                  const TestTensor& b, const Sizes& sizes, DType out_dtype, double tolerance) {
    const TensorView wide_a = a.broadcast_to(sizes), wide_b = b.broadcast_to(sizes);
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::spaced}) {
        TestTensor out(out_dtype, sizes, layout);
        ASSERT_EQ(table.binary({}, test.op, wide_a, wide_b, out.view()), kKernelOk);
        for (std::int64_t i = 0; i < out.numel(); ++i) {
            const double x = TestTensor::get(wide_a, i), y = TestTensor::get(wide_b, i);
            ASSERT_TRUE(agrees(out.get(i), test.value(x, y), tolerance))
                << "operation " << static_cast<int>(test.op) << " of " << x << " and " << y << ": "
                << out.get(i) << ", want " << test.value(x, y);
        }
    }
}

TEST(ElementwiseBinary, ArithmeticMatchesReferenceWithBroadcasting) {
    const std::vector<std::pair<Sizes, Sizes>> shapes = {
        {{}, {}},           {{33}, {33}},       {{2, 90}, {1, 90}},      {{90, 5}, {90, 1}},
        {{4, 700}, {4, 1}}, {{1, 1}, {3, 600}}, {{3, 1, 7}, {1, 20, 7}}, {{0, 4}, {1, 4}}};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            for (const auto& [a_sizes, b_sizes] : shapes) {
                for (const Layout layout : {Layout::contiguous, Layout::transposed}) {
                    TestTensor a(dtype, a_sizes, layout), b(dtype, b_sizes);
                    a.fill_uniform(1, 0.1, 4);
                    b.fill_uniform(2, 0.1, 4);
                    for (const BinaryCase& test : arithmetic_cases()) {
                        check_binary(cpu_kernel_table(isa), test, a, b, broadcast(a_sizes, b_sizes),
                                     dtype, tolerance_of(dtype, 4));
                        if (HasFatalFailure()) return;
                    }
                }
            }
        }
    }
}

TEST(ElementwiseBinary, ComparisonsOfEveryDtype) {
    const std::vector<DType> all = {DType::f32, DType::bf16,   DType::f16, DType::f64,
                                    DType::i64, DType::i32,    DType::u32, DType::u16,
                                    DType::u8,  DType::boolean};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : isa == cpu::Isa::baseline ? all : compute_dtypes(isa)) {
            TestTensor a(dtype, {5, 13}), b(dtype, {5, 1});
            a.fill([](std::int64_t i) { return static_cast<double>(i * 7 % 5); });
            b.fill([](std::int64_t i) { return static_cast<double>(i); });
            for (const BinaryCase& test : comparison_cases()) {
                check_binary(cpu_kernel_table(isa), test, a, b, {5, 13}, DType::boolean, 0);
                if (HasFatalFailure()) return;
            }
        }
    }
}

TEST(ElementwiseBinary, NaNComparesUnequalAndWinsMaximum) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor a(DType::f32, {4}), b(DType::f32, {4});
        const double nan = std::nan("");
        const double left[] = {nan, 1, nan, 2}, right[] = {1, nan, nan, 3};
        a.fill([&](std::int64_t i) { return left[i]; });
        b.fill([&](std::int64_t i) { return right[i]; });
        for (const BinaryCase& test : comparison_cases()) {
            check_binary(cpu_kernel_table(isa), test, a, b, {4}, DType::boolean, 0);
        }
        check_binary(cpu_kernel_table(isa), arithmetic_cases()[5], a, b, {4}, DType::f32, 0);
        check_binary(cpu_kernel_table(isa), arithmetic_cases()[6], a, b, {4}, DType::f32, 0);
    }
}

TEST(ElementwiseBinary, IntegersAreExact) {
    const KernelTable& table = cpu_kernel_table(cpu::Isa::baseline);
    for (const DType dtype : {DType::i64, DType::i32}) {
        TestTensor a(dtype, {41}), b(dtype, {41});
        a.fill([](std::int64_t i) { return static_cast<double>(i - 20); });
        b.fill([](std::int64_t i) { return static_cast<double>(i % 6 + 1); });
        for (BinaryCase test : arithmetic_cases()) {
            if (test.op == BinaryOp::divide) {
                test.value = [](double x, double y) { return std::trunc(x / y); };
            }
            check_binary(table, test, a, b, {41}, dtype, 0);
        }
    }
    TestTensor smallest(DType::i64, {1}), minus_one(DType::i64, {1}), zero(DType::i64, {1});
    smallest.view().as<std::int64_t>()[0] = INT64_MIN;
    minus_one.set(0, -1);
    zero.set(0, 0);
    TestTensor out(DType::i64, {1});
    EXPECT_EQ(table.binary({}, BinaryOp::divide, smallest.view(), minus_one.view(), out.view()),
              kKernelOk);
    EXPECT_EQ(out.view().as<std::int64_t>()[0], INT64_MIN);
    EXPECT_EQ(table.binary({}, BinaryOp::divide, smallest.view(), zero.view(), out.view()),
              kKernelFailed);
    EXPECT_EQ(table.binary({}, BinaryOp::power, zero.view(), minus_one.view(), out.view()),
              kKernelFailed);
}

TEST(ElementwiseBinary, LogicalOperations) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor a(DType::boolean, {70}), b(DType::boolean, {70});
        a.fill([](std::int64_t i) { return i & 1; });
        b.fill([](std::int64_t i) { return i & 2; });
        const auto check = [&](BinaryOp op, auto value) {
            check_binary(cpu_kernel_table(isa), {op, value}, a, b, {70}, DType::boolean, 0);
        };
        check(BinaryOp::logical_and, [](double x, double y) { return x != 0 && y != 0; });
        check(BinaryOp::logical_or, [](double x, double y) { return x != 0 || y != 0; });
        check(BinaryOp::logical_xor, [](double x, double y) { return (x != 0) != (y != 0); });
    }
}

TEST(ElementwiseBinary, InPlaceAndOnAnyNumberOfThreads) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        const KernelTable& table = cpu_kernel_table(isa);
        TestTensor a(DType::bf16, {301, 333}), b(DType::bf16, {1, 333}), expected(a);
        a.fill_normal(1);
        b.fill_normal(2);
        const TensorView wide = b.broadcast_to({301, 333});
        set_num_threads(1);
        table.binary({}, BinaryOp::add, a.view(), wide, expected.view());
        for (const int threads : {1, 2, 3}) {
            set_num_threads(threads);
            TestTensor copy(a);
            table.binary({}, BinaryOp::add, copy.view(), wide, copy.view());
            EXPECT_EQ(copy.bytes(), expected.bytes());
        }
        set_num_threads(1);
    }
}

TEST(ElementwiseBinary, WhereSelectsElementsOfEveryDtype) {
    const std::vector<DType> dtypes = {DType::f32, DType::bf16, DType::f64, DType::i64, DType::u8};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : dtypes) {
            TestTensor condition(DType::boolean, {6, 1}), a(dtype, {6, 97}, Layout::transposed);
            TestTensor b(dtype, {1, 1}), out(dtype, {6, 97});
            condition.fill([](std::int64_t i) { return i % 2; });
            a.fill([](std::int64_t i) { return static_cast<double>(i % 100); });
            b.fill([](std::int64_t) { return 77.0; });
            ASSERT_EQ(cpu_kernel_table(isa).where({}, condition.broadcast_to({6, 97}), a.view(),
                                                  b.broadcast_to({6, 97}), out.view()),
                      kKernelOk);
            for (std::int64_t i = 0; i < out.numel(); ++i) {
                ASSERT_EQ(out.get(i), i / 97 % 2 != 0 ? a.get(i) : 77.0);
            }
        }
    }
}

TEST(ElementwiseBinary, ClampKeepsNaN) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : compute_dtypes(isa)) {
            TestTensor in(dtype, {37}, Layout::spaced), out(dtype, {37});
            in.fill([](std::int64_t i) {
                return i == 36 ? std::nan("") : static_cast<double>(i - 18);
            });
            ASSERT_EQ(cpu_kernel_table(isa).clamp({}, in.view(), -3, 5, out.view()), kKernelOk);
            for (std::int64_t i = 0; i < 36; ++i) {
                EXPECT_EQ(out.get(i), std::min(std::max(in.get(i), -3.0), 5.0));
            }
            EXPECT_TRUE(std::isnan(out.get(36)));
        }
    }
    TestTensor in(DType::i32, {21}), out(DType::i32, {21});
    in.fill([](std::int64_t i) { return static_cast<double>(i - 10); });
    const double inf = std::numeric_limits<double>::infinity();
    ASSERT_EQ(cpu_kernel_table(cpu::Isa::baseline).clamp({}, in.view(), -2.5, inf, out.view()),
              kKernelOk);
    for (std::int64_t i = 0; i < 21; ++i) EXPECT_EQ(out.get(i), std::max(in.get(i), -2.0));
}

}  // namespace
}  // namespace tempra
