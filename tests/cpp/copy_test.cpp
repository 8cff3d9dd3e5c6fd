// copy, accumulate, fill and arange of every ISA, over dtypes and layouts.
#include <gtest/gtest.h>

#include "tempra/threads.h"
#include "test_tensor.h"

namespace tempra {
namespace {

using testing::agrees;
using testing::isas_of_this_machine;
using testing::Layout;
using testing::Sizes;
using testing::TestTensor;

const std::vector<DType> kAllDtypes = {DType::f32, DType::bf16,   DType::f16, DType::f64,
                                       DType::i64, DType::i32,    DType::u32, DType::u16,
                                       DType::u8,  DType::boolean};

bool runs_on_every_isa(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

// What storing `value` gives, by the test's own slow conversion.
double stored(DType dtype, double value) {
    TestTensor one(dtype, {});
    one.set(0, value);
    return one.get(0);
}

TEST(Copy, EveryPairOfDtypes) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType from : kAllDtypes) {
            for (const DType to : kAllDtypes) {
                if (isa != cpu::Isa::baseline && !runs_on_every_isa(from) && !runs_on_every_isa(to))
                    continue;
                SCOPED_TRACE(std::string(cpu::name_of(isa)) + ": " + name_of(from) + " to " +
                             name_of(to));
                TestTensor in(from, {7, 9}), out(to, {7, 9}, Layout::spaced);
                in.fill([](std::int64_t i) { return static_cast<double>(i * i % 251) * 0.5; });
                ASSERT_EQ(cpu_kernel_table(isa).copy({}, in.view(), out.view()), kKernelOk);
                for (std::int64_t i = 0; i < in.numel(); ++i) {
                    ASSERT_EQ(out.get(i), stored(to, in.get(i))) << in.get(i);
                }
            }
        }
    }
}

TEST(Copy, FloatsRoundToNearestEvenOnce) {
    std::vector<double> values = {
        0.0,        -0.0,        1e-45,       -1e-41,   1e-8,     6e-8,      5.96e-8, 65519,
        65520,      65504,       3.4e38,      -3.39e38, INFINITY, -INFINITY, NAN,     1 + 0x1p-8,
        1 + 0x3p-8, 1 + 0x1p-11, 1 + 0x3p-11, 0x1p-14,  0x1p-15,  0x1.ffp-15};
    // Between two bf16 values, a hair above the tie that rounding to float first would hit.
    values.push_back(1 + 0x1p-8 + 0x1p-40);
    const auto count = static_cast<std::int64_t>(values.size());
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType from : {DType::f32, DType::f64}) {
            for (const DType to : {DType::bf16, DType::f16, DType::f32}) {
                if (from == to ||
                    (isa != cpu::Isa::baseline && to == DType::f16 && from == DType::f64))
                    continue;
                TestTensor in(from, {count}), out(to, {count});
                in.fill([&](std::int64_t i) { return values[static_cast<size_t>(i)]; });
                ASSERT_EQ(cpu_kernel_table(isa).copy({}, in.view(), out.view()), kKernelOk);
                for (std::int64_t i = 0; i < count; ++i) {
                    double want = stored(to, in.get(i));
                    if (i == count - 1 && from == DType::f64 && to == DType::bf16)
                        want = 1 + 0x1p-7;
                    EXPECT_TRUE(agrees(out.get(i), want, 0))
                        << name_of(from) << " " << in.get(i) << " to " << name_of(to) << " gave "
                        << out.get(i);
                }
            }
        }
    }
}

TEST(Copy, HalfPrecisionRoundTripsBitForBit) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor half(DType::f16, {0x10000}), wide(DType::f32, {0x10000}),
            back(DType::f16, {0x10000});
        for (int bits = 0; bits < 0x10000; ++bits)
            half.view().as<std::uint16_t>()[bits] = static_cast<std::uint16_t>(bits);
        cpu_kernel_table(isa).copy({}, half.view(), wide.view());
        cpu_kernel_table(isa).copy({}, wide.view(), back.view());
        for (std::int64_t i = 0; i < 0x10000; ++i) {
            ASSERT_TRUE(agrees(wide.get(i), half.get(i), 0)) << i;
            if (!std::isnan(half.get(i)))
                ASSERT_EQ(back.view().as<std::uint16_t>()[i], i);
            else
                ASSERT_TRUE(std::isnan(back.get(i)));
        }
    }
}

TEST(Copy, LayoutsOfEveryElementSize) {
    const std::vector<Sizes> shapes = {{},          {5},      {0, 2},          {40, 50},
                                       {3, 33, 65}, {100, 3}, {2, 3, 4, 5, 6}, {513, 129}};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::i64}) {
            for (const Sizes& sizes : shapes) {
                for (const Layout from : {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                    for (const Layout to :
                         {Layout::contiguous, Layout::transposed, Layout::spaced}) {
                        TestTensor in(dtype, sizes, from), out(dtype, sizes, to), expected(out);
                        in.fill([](std::int64_t i) { return static_cast<double>(i % 251); });
                        expected.fill([](std::int64_t i) { return static_cast<double>(i % 251); });
                        ASSERT_EQ(cpu_kernel_table(isa).copy({}, in.view(), out.view()), kKernelOk);
                        ASSERT_EQ(out.bytes(), expected.bytes()) << name_of(dtype);
                    }
                }
            }
        }
    }
}

// Permutations other than full reversal, with the two swapped dimensions anywhere.
TEST(Copy, PermutedDimensions) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor in(DType::f32, {6, 40, 3, 24});
        in.fill([](std::int64_t i) { return static_cast<double>(i); });
        const int orders[][4] = {
            {0, 2, 1, 3}, {3, 1, 2, 0}, {0, 3, 2, 1}, {2, 0, 3, 1}, {0, 1, 3, 2}};
        for (const auto& order : orders) {
            TensorView permuted = in.view();
            Sizes sizes;
            for (int d = 0; d < 4; ++d) {
                permuted.sizes[d] = in.view().sizes[order[d]];
                permuted.strides[d] = in.view().strides[order[d]];
                sizes.push_back(permuted.sizes[d]);
            }
            TestTensor out(DType::f32, sizes);
            ASSERT_EQ(cpu_kernel_table(isa).copy({}, permuted, out.view()), kKernelOk);
            for (std::int64_t i = 0; i < out.numel(); ++i)
                ASSERT_EQ(out.get(i), TestTensor::get(permuted, i));
        }
    }
}

TEST(Copy, BroadcastsByZeroStrides) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        TestTensor column(DType::bf16, {30, 1}), out(DType::f32, {30, 2000});
        column.fill([](std::int64_t i) { return static_cast<double>(i); });
        ASSERT_EQ(cpu_kernel_table(isa).copy({}, column.broadcast_to({30, 2000}), out.view()),
                  kKernelOk);
        for (std::int64_t i = 0; i < out.numel(); ++i)
            ASSERT_EQ(out.get(i), static_cast<double>(i / 2000));
    }
}

TEST(Copy, AccumulateRoundsOnce) {
    const std::vector<DType> floats = {DType::f32, DType::bf16, DType::f64, DType::f16};
    for (const cpu::Isa isa : isas_of_this_machine()) {
        for (const DType from : floats) {
            for (const DType to : floats) {
                TestTensor in(from, {3, 71}, Layout::transposed), out(to, {3, 71});
                in.fill([](std::int64_t i) { return static_cast<double>(i) * 0.25; });
                out.fill([](std::int64_t i) { return static_cast<double>(i % 7) + 0.125; });
                const TestTensor before(out);
                ASSERT_EQ(cpu_kernel_table(isa).accumulate({}, in.view(), out.view()), kKernelOk);
                for (std::int64_t i = 0; i < in.numel(); ++i) {
                    ASSERT_EQ(out.get(i), stored(to, before.get(i) + in.get(i)));
                }
            }
        }
    }
}

TEST(Fill, EveryDtypeAndArange) {
    for (const cpu::Isa isa : isas_of_this_machine()) {
        const KernelTable& table = cpu_kernel_table(isa);
        for (const DType dtype : kAllDtypes) {
            TestTensor out(dtype, {3, 45}, Layout::spaced), expected(out);
            expected.fill([](std::int64_t) { return 2.5; });
            ASSERT_EQ(table.fill({}, out.view(), 2.5), kKernelOk);
            EXPECT_EQ(out.bytes(), expected.bytes()) << name_of(dtype);
        }
        for (const DType dtype : {DType::f32, DType::bf16, DType::f64, DType::i64, DType::i32}) {
            TestTensor out(dtype, {70001}, Layout::spaced);
            ASSERT_EQ(table.arange({}, out.view(), -3, 2), kKernelOk);
            for (std::int64_t i = 0; i < 70001; ++i) {
                ASSERT_EQ(out.get(i), stored(dtype, -3.0 + 2.0 * static_cast<double>(i)));
            }
        }
    }
}

}  // namespace
}  // namespace tempra
