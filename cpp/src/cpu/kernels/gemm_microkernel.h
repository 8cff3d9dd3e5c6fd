// The inner loop of the matrix product: a register tile of up to kTileRows x kTileVectors vectors.
//
//   tile[i][j] = sum over steps of a[i] * b[j]
//
// Per step one vector load for each vector of columns and one broadcast for each row; the sums stay
// in registers over all steps, so the tile is bound by multiply-adds, not by loads (AVX-512: 24
// multiply-adds for 10 loads). B comes from a packed panel; A is read through two byte strides, so
// row-major A needs no packing and k-strided A is packed first. Sums run in order of k.
#pragma once

#include "kernels/gemm_pack.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr int kTileRows = 6;
#if defined(__AVX512F__)
inline constexpr int kTileVectors = 4;  // 24 sums + 4 columns + broadcasts of 32 registers
#else
inline constexpr int kTileVectors = 2;  // 12 sums + 2 columns + 1 broadcast of 16 registers
#endif

// How the packed operands of T multiply; `Sum` is a vector of the arithmetic type.
template <class P>
struct TileArithmetic {
    using Scalar = P;
    using Sum = Vec<P>;
    using Operand = Vec<P>;
    static Operand broadcast_a(const char* a) {
        P value;
        std::memcpy(&value, a, sizeof(value));
        return broadcast<P>(value);
    }
    static void multiply_add(Sum& sum, Operand a, Operand b) { sum += a * b; }
};

#if TEMPRA_GEMM_BF16_PAIRS
template <>
struct TileArithmetic<Bfloat16Pair> {
    using Scalar = float;
    using Sum = VecFloat;
    using Operand = __m512i;
    static Operand broadcast_a(const char* a) {
        int value;
        std::memcpy(&value, a, sizeof(value));
        return _mm512_set1_epi32(value);
    }
    // The last value of an odd k, with no partner: nothing past the row's end is read.
    static Operand broadcast_single(const char* a) {
        std::uint16_t value;
        std::memcpy(&value, a, sizeof(value));
        return _mm512_set1_epi32(value);
    }
    static void multiply_add(Sum& sum, Operand a, Operand b) {
        sum = vec_cast<VecFloat>(
            _mm512_dpbf16_ps(vec_cast<__m512>(sum), vec_cast<__m512bh>(a), vec_cast<__m512bh>(b)));
    }
};
#endif

// Where a tile's sums go: an f32 (or f64) matrix, overwritten or added to.
template <class A>
struct TileTarget {
    A* data;
    std::int64_t row_stride;
    bool add;
};

// Steps of packed elements; `single` says that row-major bf16 A ends in an unpaired value, which
// comes after `steps` and meets a zero-padded row of the panel.
template <class P>
struct TileOperands {
    std::int64_t steps;
    const char* a;
    std::int64_t a_row_bytes;
    std::int64_t a_step_bytes;
    bool single;
    const P* b;
};

template <class P, int kRows, int kVectors>
void multiply_tile(const TileOperands<P>& operands,
                   const TileTarget<typename TileArithmetic<P>::Scalar>& target) {
    using Math = TileArithmetic<P>;
    using Scalar = typename Math::Scalar;
    using Operand = typename Math::Operand;
    constexpr int kLanesHere = kLanes<Scalar>;
    typename Math::Sum sums[kRows][kVectors] = {};
    const char* a = operands.a;
    const P* b = operands.b;
    const std::int64_t a_row = operands.a_row_bytes;
    const std::int64_t a_step = operands.a_step_bytes;
    for (std::int64_t step = operands.steps; step > 0; --step) {
        Operand columns[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
            std::memcpy(&columns[j], b + j * kLanesHere, sizeof(columns[j]));
        }
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
            const Operand row = Math::broadcast_a(a + i * a_row);
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; ++j) Math::multiply_add(sums[i][j], row, columns[j]);
        }
        a += a_step;
        b += kVectors * kLanesHere;
    }
    if constexpr (!__is_same(P, Scalar)) {
        if (operands.single) {
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i) {
                const Operand row = Math::broadcast_single(a + i * a_row);
#pragma GCC unroll 4
                for (int j = 0; j < kVectors; ++j) {
                    Operand columns;
                    std::memcpy(&columns, b + j * kLanesHere, sizeof(columns));
                    Math::multiply_add(sums[i][j], row, columns);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
        Scalar* out = target.data + i * target.row_stride;
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
            if (target.add) sums[i][j] += load<Scalar>(out + j * kLanesHere);
            store<Scalar>(out + j * kLanesHere, sums[i][j]);
        }
    }
}

template <class P>
using TileKernel = void (*)(const TileOperands<P>&,
                            const TileTarget<typename TileArithmetic<P>::Scalar>&);

// The kernel for `rows` (1 to kTileRows) and `vectors` (1 to kTileVectors).
template <class P>
inline TileKernel<P> tile_kernel(std::int64_t rows, std::int64_t vectors) {
#define TEMPRA_TILE_ROW(count)                                                            \
    {                                                                                     \
        multiply_tile<P, count, 1>, multiply_tile<P, count, 2>, multiply_tile < P, count, \
            kTileVectors<3 ? 1 : 3>, multiply_tile<P, count, kTileVectors>                \
    }
    static constexpr TileKernel<P> kKernels[kTileRows][4] = {
        TEMPRA_TILE_ROW(1), TEMPRA_TILE_ROW(2), TEMPRA_TILE_ROW(3),
        TEMPRA_TILE_ROW(4), TEMPRA_TILE_ROW(5), TEMPRA_TILE_ROW(6)};
#undef TEMPRA_TILE_ROW
    return kKernels[rows - 1][vectors - 1];
}

}  // namespace tempra::cpu::TEMPRA_ISA
