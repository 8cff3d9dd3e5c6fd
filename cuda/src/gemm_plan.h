// How a row-major matrix product becomes one of cuBLASLt's, which are column-major. Plain C++ and
// host-tested.
//
// c = a @ b in row-major order is c^T = b^T a^T in column-major order over the same bytes. So b is
// cuBLAS's first operand and a its second, m and n change places, and a row-major matrix is one
// that cuBLAS takes as it is stored.
#pragma once

#include <cstdint>

#include "dispatch/kernel_table.h"

namespace tempra::cuda {

struct GemmOperand {
    bool transposed = false;
    std::int64_t stored_rows = 0, stored_columns = 0;  // column-major
    std::int64_t stride = 0;                           // between columns
    std::int64_t batch_stride = 0;
};

// False where neither of the last two strides is 1, or rows overlap: then the operand is copied.
[[nodiscard]] inline bool gemm_operand(const TensorView& matrix, GemmOperand& operand) {
    const std::int64_t rows = matrix.size(-2), columns = matrix.size(-1);
    const std::int64_t row_stride = matrix.stride(-2), column_stride = matrix.stride(-1);
    operand.batch_stride = matrix.dimensions == 3 && matrix.sizes[0] > 1 ? matrix.strides[0] : 0;
    if (column_stride == 1 || columns == 1) {
        operand.transposed = false;
        operand.stored_rows = columns;
        operand.stored_columns = rows;
        operand.stride = rows == 1 ? columns : row_stride;
        if (operand.stride >= columns) return true;
    }
    if (row_stride == 1 || rows == 1) {
        operand.transposed = true;
        operand.stored_rows = rows;
        operand.stored_columns = columns;
        operand.stride = columns == 1 ? rows : column_stride;
        if (operand.stride >= rows) return true;
    }
    return false;
}

// What follows the sums on their way to c (dispatch/kernel_table.h).
enum class GemmFinish {
    in_product,     // bias, or adding c or the residual, or the tanh GELU: within cuBLASLt
    after_product,  // by a kernel of our own, from fp32 sums
};

[[nodiscard]] inline bool adds_one_matrix_at_most(const GemmArguments& g) {
    return g.accumulate == 0 || !g.residual.present();
}

// The tanh GELU or its derivative, and nothing added behind it.
[[nodiscard]] inline bool is_fusable_gelu(const GemmArguments& g) {
    if (g.activation != Activation::gelu_tanh || g.accumulate != 0 || g.residual.present()) {
        return false;
    }
    const TensorView& kept = g.activation_input.present() ? g.activation_input : g.pre_activation;
    if (g.activation_input.present() && (g.bias.present() || g.pre_activation.present())) {
        return false;
    }
    if (!kept.present()) return true;
    // cuBLASLt reads and writes it in packs.
    return kept.stride(-1) == 1 && kept.stride(-2) % 8 == 0 && kept.stride(-2) >= kept.size(-1) &&
           reinterpret_cast<std::uintptr_t>(kept.data) % 16 == 0;
}

[[nodiscard]] inline GemmFinish gemm_finish(const GemmArguments& g) {
    const bool batched = g.c.dimensions == 3 && g.c.sizes[0] > 1;
    const bool plain = g.activation == Activation::none && !g.activation_input.present() &&
                       !g.pre_activation.present() && adds_one_matrix_at_most(g);
    if (plain && !(batched && g.residual.present())) return GemmFinish::in_product;
    if (!batched && is_fusable_gelu(g)) return GemmFinish::in_product;
    return GemmFinish::after_product;
}

// Of the tanh GELU's forms, or of none.
[[nodiscard]] inline std::uint32_t gemm_epilogue(const GemmArguments& g) {
    constexpr std::uint32_t kNone = 1, kBias = 4, kGelu = 32, kAuxiliary = 128, kDerivative = 192;
    if (g.activation_input.present()) return kDerivative;
    std::uint32_t epilogue = g.bias.present() ? kBias : 0;
    if (g.activation == Activation::gelu_tanh) epilogue |= kGelu;
    if (g.pre_activation.present()) epilogue |= kAuxiliary;
    return epilogue == 0 ? kNone : epilogue;
}

// The largest power of two up to 256 that divides the address.
[[nodiscard]] inline std::uint32_t alignment_of(const void* data) {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    std::uint32_t alignment = 256;
    while (alignment > 1 && address % alignment != 0) alignment /= 2;
    return alignment;
}

}  // namespace tempra::cuda
