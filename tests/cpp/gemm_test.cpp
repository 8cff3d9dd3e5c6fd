// The matrix product on every ISA this machine can run, against sums in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gemm_case.h"
#include "tempra/threads.h"

namespace tempra::testing {
namespace {

class GemmOn : public ::testing::TestWithParam<cpu::Isa> {
  protected:
    const KernelTable& table() const { return cpu_kernel_table(GetParam()); }
    std::vector<Types> all_types() const { return product_types(GetParam()); }
};

TEST_P(GemmOn, OddShapesInEveryTransposition) {
    const std::int64_t sizes[][3] = {{1, 1, 1},    {1, 64, 64},   {2, 3, 5},     {5, 17, 33},
                                     {6, 64, 16},  {7, 65, 1},    {8, 130, 2},   {9, 31, 129},
                                     {48, 64, 32}, {49, 63, 31},  {50, 200, 77}, {13, 1, 100},
                                     {97, 97, 97}, {3, 129, 255}, {64, 48, 2100}};
    for (const auto& size : sizes) {
        for (unsigned flags = 0; flags < 4; ++flags) {
            for (const std::int64_t padding : {0, 3}) {
                for (const Types types : all_types()) {
                    check(table(), {size[0], size[1], size[2], flags, Activation::none, 1, padding},
                          types);
                }
            }
        }
    }
}

TEST_P(GemmOn, EveryRowAndColumnCountOfATile) {
    for (std::int64_t m = 1; m <= 14; ++m) {
        for (std::int64_t n = 1; n <= 70; n += 3) {
            for (const Types types : all_types()) check(table(), {m, n, 7}, types);
        }
    }
}

// Every number of rows that is multiplied without packing, and the first ones beyond, with column
// counts that end inside a tile and inside a task.
TEST_P(GemmOn, FewRows) {
    for (std::int64_t m = 1; m <= 66; ++m) {
        for (const std::int64_t n : {3, 64, 133, 1030}) {
            for (const unsigned flags : {0U, unsigned{kTransposeB}, unsigned{kTransposeA}}) {
                for (const Types types : all_types()) check(table(), {m, n, 37, flags}, types);
            }
        }
    }
}

TEST_P(GemmOn, Epilogues) {
    const Activation activations[] = {Activation::none, Activation::relu, Activation::silu,
                                      Activation::gelu, Activation::gelu_tanh};
    const unsigned combinations[] = {kBias,
                                     kBiasF32,
                                     kResidual,
                                     kBias | kResidual,
                                     kBias | kPreActivation,
                                     kBiasF32 | kPreActivation | kResidual,
                                     kActivationInput,
                                     kAccumulate};
    const std::int64_t sizes[][3] = {{20, 70, 30}, {1, 35, 64}, {12, 64, 2500}, {3, 9, 0}};
    for (const auto& size : sizes) {
        for (const Activation activation : activations) {
            for (const unsigned combination : combinations) {
                for (const Types types : all_types()) {
                    check(table(), {size[0], size[1], size[2], combination, activation, 1, 5},
                          types);
                }
            }
        }
    }
}

TEST_P(GemmOn, Batches) {
    for (const unsigned flags :
         {0U, unsigned{kTransposeA}, unsigned{kTransposeB}, unsigned{kShareA}, unsigned{kShareB},
          kBias | kResidual, unsigned{kAccumulate}}) {
        for (const Types types : all_types()) {
            check(table(), {5, 19, 23, flags, Activation::none, 7}, types);
            check(table(), {33, 40, 65, flags, Activation::relu, 3, 2}, types);
        }
    }
}

TEST_P(GemmOn, EmptyAndZeroLengthSums) {
    for (const Types types : all_types()) {
        check(table(), {0, 5, 3}, types);
        check(table(), {5, 0, 3}, types);
        check(table(), {5, 3, 4, 0, Activation::none, 0}, types);
        check(table(), {5, 70, 0}, types);
        check(table(), {5, 70, 0, kBias | kResidual}, types);
        check(table(), {5, 70, 0, kAccumulate}, types);
    }
}

// Several k blocks, several tasks, sums through c or a buffer.
TEST_P(GemmOn, LongSums) {
    for (const Types types : all_types()) {
        for (const unsigned flags : {0U, unsigned{kAccumulate}, kTransposeA | kAccumulate,
                                     kTransposeB | kBias | kResidual}) {
            check(table(), {53, 67, 4500, flags}, types);
        }
    }
}

TEST_P(GemmOn, LargeGrid) {
    for (const Types types : all_types()) {
        // Wider than high, higher than wide (groups of rows), and few rows (each task packs).
        for (const auto& size : {std::pair{270, 1100}, {450, 130}, {200, 1100}}) {
            check(table(), {size.first, size.second, 40}, types);
            check(table(), {size.first, size.second, 40, kTransposeA | kAccumulate}, types);
            check(table(),
                  {size.first, size.second, 40, kTransposeB | kBias, Activation::gelu_tanh}, types);
        }
    }
}

TEST_P(GemmOn, PackedWeightsGiveTheSameBits) {
    const std::int64_t sizes[][3] = {{50, 130, 77}, {3, 70, 64},    {1, 64, 33},
                                     {20, 70, 65},  {33, 1100, 40}, {60, 100, 3000}};
    for (const auto& size : sizes) {
        for (const unsigned flags : {0U, unsigned{kTransposeB}}) {
            for (const Types types : all_types()) {
                ProductSetup fresh, packed;
                make(fresh, table(), {size[0], size[1], size[2], flags}, types, 5);
                make(packed, table(), {size[0], size[1], size[2], flags | kPackedB}, types, 5);
                ASSERT_EQ(table().gemm({}, fresh.arguments), kKernelOk);
                ASSERT_EQ(table().gemm({}, packed.arguments), kKernelOk);
                EXPECT_EQ(bytes_of(fresh.c), bytes_of(packed.c));
                check(table(), {size[0], size[1], size[2], flags | kPackedB}, types);
            }
        }
    }
}

// What a product with fp32 weights beside bf16 activations is: the one with the weights rounded.
TEST_P(GemmOn, F32WeightsAreRoundedToBf16) {
    const std::int64_t sizes[][3] = {{1, 1, 1},       {1, 130, 77},   {3, 70, 64},   {8, 33, 131},
                                     {9, 17, 1},      {50, 130, 77},  {20, 5, 31},   {64, 64, 64},
                                     {60, 100, 3000}, {100, 700, 65}, {5, 300, 3001}};
    for (const auto& size : sizes) {
        for (const unsigned flags : {0U, unsigned{kTransposeB}, unsigned{kTransposeA}}) {
            for (const DType result : {DType::f32, DType::bf16}) {
                SCOPED_TRACE(::testing::Message() << "m " << size[0] << " n " << size[1] << " k "
                                                  << size[2] << " flags " << flags);
                ProductSetup wide, rounded;
                const Case t{size[0], size[1], size[2], flags | kAccumulate | kBiasF32};
                make(wide, table(), t, {DType::bf16, result}, 7);
                make(rounded, table(), t, {DType::bf16, result}, 7);
                std::mt19937 random(8);
                wide.b =
                    Array(DType::f32, 1, t.k, t.n, (flags & kTransposeB) != 0, 3, false, random);
                wide.arguments.b = wide.b.matrix();
                for (std::int64_t p = 0; p < t.k; ++p) {
                    for (std::int64_t j = 0; j < t.n; ++j) {
                        set(rounded.arguments.b, rounded.b.offset(0, p, j), wide.b.at(0, p, j));
                    }
                }
                ASSERT_EQ(table().gemm({}, wide.arguments), kKernelOk);
                ASSERT_EQ(table().gemm({}, rounded.arguments), kKernelOk);
                EXPECT_EQ(bytes_of(wide.c), bytes_of(rounded.c));
            }
        }
    }
}

TEST_P(GemmOn, ThreadCountDoesNotChangeBits) {
    const int before = num_threads();
    const Case cases[] = {{200, 300, 500, kTransposeB | kBias, Activation::gelu_tanh},
                          {300, 330, 50, kTransposeB | kBias, Activation::gelu_tanh},
                          {450, 130, 40},
                          {70, 130, 300, kTransposeA},
                          {90, 200, 7000, kTransposeA},
                          {30, 40, 7000, kTransposeA},
                          {70, 226, 60, kBiasF32 | kAccumulate},
                          {130, 700, 2500, kTransposeA | kAccumulate},
                          {4, 900, 300, kTransposeB},
                          {4, 900, 300},
                          {40, 50, 60, 0, Activation::none, 9}};
    for (const Case& t : cases) {
        for (const Types types : all_types()) {
            std::string first;
            for (const int threads : {1, 2, 3, 16, 64}) {
                set_num_threads(threads);
                ProductSetup s;
                make(s, table(), t, types, 11);
                ASSERT_EQ(table().gemm({}, s.arguments), kKernelOk);
                if (threads == 1) {
                    first = bytes_of(s.c);
                } else {
                    EXPECT_EQ(first, bytes_of(s.c)) << threads << " threads, m " << t.m;
                }
            }
        }
    }
    set_num_threads(before);
}

// Few rows are cut in another way than many, and large operands are packed in several chunks of
// columns, here in both ways in fp32; what a row's sums are does not depend on it.
TEST_P(GemmOn, OtherRowsDoNotChangeBits) {
    const int before = num_threads();
    set_num_threads(2);
    const std::int64_t sizes[][3] = {{260, 1050, 3072}, {300, 95, 4500}, {300, 1000, 31}};
    for (const auto& size : sizes) {
        for (const unsigned flags : {0U, unsigned{kTransposeA}}) {
            for (const Types types : all_types()) {
                ProductSetup all, some;
                make(all, table(), {size[0], size[1], size[2], flags}, types, 13);
                make(some, table(), {size[0], size[1], size[2], flags}, types, 13);
                some.arguments.a.sizes[0] = some.arguments.c.sizes[0] = 70;
                ASSERT_EQ(table().gemm({}, all.arguments), kKernelOk);
                ASSERT_EQ(table().gemm({}, some.arguments), kKernelOk);
                const auto bytes = static_cast<std::size_t>(70 * size[1]) *
                                   static_cast<std::size_t>(size_of(types.result));
                EXPECT_EQ(bytes_of(all.c).substr(0, bytes), bytes_of(some.c).substr(0, bytes))
                    << "n " << size[1] << " k " << size[2] << " flags " << flags;
            }
        }
    }
    set_num_threads(before);
}

TEST_P(GemmOn, NanAndInfinityPropagate) {
    const double infinity = std::numeric_limits<double>::infinity();
    for (const Types types : all_types()) {
        for (const std::int64_t m : {2, 20}) {
            for (const double special : {std::nan(""), infinity, -infinity}) {
                ProductSetup s;
                make(s, table(), {m, 70, 33, kTransposeB, Activation::none}, types, 3);
                set(s.arguments.a, s.a.offset(0, 1, 32), special);
                set(s.arguments.b, s.b.offset(0, 32, 5), 1.0);
                set(s.arguments.b, s.b.offset(0, 32, 6), 0.0);
                ASSERT_EQ(table().gemm({}, s.arguments), kKernelOk);
                for (std::int64_t j = 0; j < 70; ++j) {
                    EXPECT_FALSE(std::isfinite(s.c.at(0, 1, j))) << j;
                    EXPECT_TRUE(std::isfinite(s.c.at(0, 0, j))) << j;
                }
                EXPECT_TRUE(std::isnan(special) ? std::isnan(s.c.at(0, 1, 5))
                                                : s.c.at(0, 1, 5) == special);
                EXPECT_TRUE(std::isnan(s.c.at(0, 1, 6)));  // infinity * 0
            }
        }
    }
}

TEST_P(GemmOn, RefusesOtherTypes) {
    ProductSetup s;
    make(s, table(), {4, 4, 4}, {DType::f32, DType::f32}, 1);
    s.arguments.b.dtype = DType::bf16;
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    s.arguments.a.dtype = DType::bf16;
    s.arguments.b.dtype = DType::f32;
    s.arguments.packed_b = s.b.storage.data();  // packed for f32 products
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    s.arguments.a.dtype = s.arguments.b.dtype = DType::i32;
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    EXPECT_EQ(table().gemm_packed_bytes(s.arguments.b), 0);
}

std::string isa_name(const ::testing::TestParamInfo<cpu::Isa>& test) {
    return cpu::name_of(test.param);
}

INSTANTIATE_TEST_SUITE_P(Isa, GemmOn, ::testing::ValuesIn(runnable_isas()), isa_name);

}  // namespace
}  // namespace tempra::testing
