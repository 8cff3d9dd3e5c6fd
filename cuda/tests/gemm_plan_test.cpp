// Row-major products as column-major ones, and which epilogues go with them.
#include "gemm_plan.h"

#include <gtest/gtest.h>

#include "cublas_lt.h"

namespace tempra::cuda {
namespace {

TensorView matrix(std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                  std::int64_t column_stride, DType dtype = DType::bf16) {
    TensorView view;
    view.data = reinterpret_cast<void*>(std::uintptr_t{1} << 20);
    view.dtype = dtype;
    view.dimensions = 2;
    view.sizes[0] = rows;
    view.sizes[1] = columns;
    view.strides[0] = row_stride;
    view.strides[1] = column_stride;
    return view;
}

TEST(GemmOperand, RowMajorIsTakenAsStored) {
    GemmOperand operand;
    ASSERT_TRUE(gemm_operand(matrix(3, 5, 8, 1), operand));
    EXPECT_FALSE(operand.transposed);
    EXPECT_EQ(operand.stored_rows, 5);
    EXPECT_EQ(operand.stored_columns, 3);
    EXPECT_EQ(operand.stride, 8);
    ASSERT_TRUE(gemm_operand(matrix(3, 5, 1, 4), operand));
    EXPECT_TRUE(operand.transposed);
    EXPECT_EQ(operand.stored_rows, 3);
    EXPECT_EQ(operand.stride, 4);
}

TEST(GemmOperand, StridesOfSingleRowsAndColumnsDoNotMatter) {
    GemmOperand operand;
    ASSERT_TRUE(gemm_operand(matrix(1, 5, 0, 1), operand));
    EXPECT_EQ(operand.stride, 5);
    ASSERT_TRUE(gemm_operand(matrix(5, 1, 1, 77), operand));
    EXPECT_GE(operand.stride, operand.stored_rows);
    ASSERT_TRUE(gemm_operand(matrix(5, 1, 7, 3), operand));
    EXPECT_FALSE(operand.transposed);
    EXPECT_EQ(operand.stored_rows, 1);
    EXPECT_EQ(operand.stride, 7);
}

TEST(GemmOperand, OthersAreCopied) {
    GemmOperand operand;
    EXPECT_FALSE(gemm_operand(matrix(3, 5, 10, 2), operand));
    EXPECT_FALSE(gemm_operand(matrix(3, 5, 0, 1), operand)) << "rows of the same memory";
    EXPECT_FALSE(gemm_operand(matrix(3, 5, 4, 1), operand)) << "rows that overlap";
}

GemmArguments arguments() {
    GemmArguments g;
    g.c = matrix(16, 24, 24, 1);
    return g;
}

TEST(GemmFinish, OneAdditionFitsTheProduct) {
    GemmArguments g = arguments();
    EXPECT_EQ(gemm_finish(g), GemmFinish::in_product);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueNone);
    g.bias = matrix(1, 24, 24, 1);
    g.residual = g.c;
    EXPECT_EQ(gemm_finish(g), GemmFinish::in_product);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueBias);
    g.accumulate = 1;
    EXPECT_EQ(gemm_finish(g), GemmFinish::after_product) << "two matrices to add";
}

TEST(GemmFinish, TheTanhGeluFitsTheProduct) {
    GemmArguments g = arguments();
    g.activation = Activation::gelu_tanh;
    EXPECT_EQ(gemm_finish(g), GemmFinish::in_product);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueGelu);
    g.bias = matrix(1, 24, 24, 1);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueGeluBias);
    g.pre_activation = g.c;
    EXPECT_EQ(gemm_finish(g), GemmFinish::in_product);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueGeluAuxiliaryBias);
    g.pre_activation.strides[0] = 25;
    EXPECT_EQ(gemm_finish(g), GemmFinish::after_product) << "rows off a multiple of 8";
    g = arguments();
    g.activation = Activation::gelu_tanh;
    g.activation_input = g.c;
    EXPECT_EQ(gemm_finish(g), GemmFinish::in_product);
    EXPECT_EQ(gemm_epilogue(g), kEpilogueGeluDerivative);
    g.residual = g.c;
    EXPECT_EQ(gemm_finish(g), GemmFinish::after_product);
}

TEST(GemmFinish, OtherActivationsFollowTheProduct) {
    for (const Activation activation : {Activation::relu, Activation::silu, Activation::gelu}) {
        GemmArguments g = arguments();
        g.activation = activation;
        EXPECT_EQ(gemm_finish(g), GemmFinish::after_product);
    }
}

TEST(Alignment, IsTheLargestPowerOfTwo) {
    EXPECT_EQ(alignment_of(reinterpret_cast<void*>(std::uintptr_t{4096})), 256U);
    EXPECT_EQ(alignment_of(reinterpret_cast<void*>(std::uintptr_t{4096 + 48})), 16U);
    EXPECT_EQ(alignment_of(reinterpret_cast<void*>(std::uintptr_t{4098})), 2U);
}

}  // namespace
}  // namespace tempra::cuda
