// Products of few rows, as in decoding: weights are read as several streams, cut by the number of
// threads, and neither that cut nor the other rows may show in a result.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gemm_case.h"
#include "tempra/threads.h"

namespace tempra::testing {
namespace {

class FewRowsOn : public ::testing::TestWithParam<cpu::Isa> {
  protected:
    const KernelTable& table() const { return cpu_kernel_table(GetParam()); }
    void TearDown() override { set_num_threads(threads_before_); }

  private:
    int threads_before_ = num_threads();
};

TEST_P(FewRowsOn, OddNumbersOfWeights) {
    const std::int64_t sizes[][2] = {{15, 64},   {16, 31},   {17, 257},  {511, 33},
                                     {513, 100}, {1030, 65}, {2817, 96}, {700, 513}};
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        for (const auto& size : sizes) {
            for (std::int64_t m = 1; m <= 9; m += m < 4 ? 1 : 2) {
                for (const Types types : product_types(GetParam())) {
                    check(table(), {m, size[0], size[1], kTransposeB}, types);
                }
            }
        }
    }
}

TEST_P(FewRowsOn, EpiloguesInEveryTask) {
    set_num_threads(3);
    for (const Types types : product_types(GetParam())) {
        for (const std::int64_t m : {1, 3, 8}) {
            check(table(), {m, 1601, 70, kTransposeB | kBias | kResidual, Activation::gelu_tanh},
                  types);
            check(table(), {m, 1601, 70, kTransposeB | kBiasF32, Activation::silu, 1, 3}, types);
            check(table(), {m, 1601, 70, kTransposeB | kAccumulate}, types);
        }
    }
}

// Row `row` of c as bytes.
std::string row_of(const ProductSetup& s, std::int64_t row) {
    const auto bytes = static_cast<std::size_t>(size_of(s.c.view.dtype));
    const auto begin = static_cast<std::size_t>(s.c.offset(0, row, 0)) * bytes;
    return bytes_of(s.c).substr(begin, static_cast<std::size_t>(s.c.view.sizes[2]) * bytes);
}

TEST_P(FewRowsOn, ThreadsAndOtherRowsDoNotChangeBits) {
    const Case all{8, 1300, 333, kTransposeB};
    for (const Types types : product_types(GetParam())) {
        set_num_threads(1);
        ProductSetup expected;
        make(expected, table(), all, types, 11);
        ASSERT_EQ(table().gemm({}, expected.arguments), kKernelOk);
        for (const int threads : {1, 2, 3, 5}) {
            set_num_threads(threads);
            for (std::int64_t rows = 1; rows <= 8; ++rows) {
                ProductSetup part;
                make(part, table(), all, types, 11);
                part.arguments.a.sizes[0] = part.arguments.c.sizes[0] = rows;
                ASSERT_EQ(table().gemm({}, part.arguments), kKernelOk);
                for (std::int64_t i = 0; i < rows; ++i) {
                    EXPECT_EQ(row_of(part, i), row_of(expected, i))
                        << "row " << i << " of " << rows << ", " << threads << " threads";
                }
            }
        }
    }
}

std::string isa_name(const ::testing::TestParamInfo<cpu::Isa>& test) {
    return cpu::name_of(test.param);
}

INSTANTIATE_TEST_SUITE_P(Isa, FewRowsOn, ::testing::ValuesIn(runnable_isas()), isa_name);

}  // namespace
}  // namespace tempra::testing
