// The inner loop of the matrix product: a register tile of up to kTileRows x kTileVectors vectors.
//
//   tile[i][j] = sum over steps of a[i] * b[j]
//
// Per step one vector load for each vector of columns and one broadcast for each row; the sums stay
// in registers over all steps, so the tile is bound by multiply-adds, not by loads (AVX-512: 24
// multiply-adds for 11 loads). B comes from a packed panel; A is read through two byte strides, so
// row-major A needs no packing and other A comes from panels of kTileRows. Sums run in order of k.
#pragma once

#include "kernels/gemm_pack.h"

namespace tempra::cpu::TEMPRA_ISA {

#if defined(__AVX512F__)
inline constexpr int kTileRows = 8;  // 24 sums + 3 columns + broadcasts of 32 registers
#else
inline constexpr int kTileRows = 4;  // 12 sums + 3 columns + 1 broadcast of 16 registers
#endif
inline constexpr int kTileVectors = 3;

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

// Where a tile's sums go: overwritten or added to, then `bias` (null: none) added. Sums of a bf16
// product may be stored as bf16, the bias may be bf16.
template <class A>
struct TileTarget {
    void* data;
    std::int64_t row_stride;
    bool add;
    bool far;  // c itself, not a tile in L1
    bool store_bf16;
    bool bias_bf16;
    const void* bias;
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

namespace gemm_detail {

template <class A>
inline Vec<A> tile_bias(const TileTarget<A>& target, int column) {
    if constexpr (__is_same(A, float)) {
        if (target.bias_bf16) return load<A>(static_cast<const bfloat16*>(target.bias) + column);
    }
    return load<A>(static_cast<const A*>(target.bias) + column);
}

template <class S, class A, int kRows, int kVectors>
inline void store_sums(Vec<A> (&sums)[kRows][kVectors], const TileTarget<A>& target) {
    constexpr int kLanesHere = kLanes<A>;
    if constexpr (__is_same(S, bfloat16) && !__is_same(A, float)) {
        return;  // no such product
    } else {
        S* data = static_cast<S*>(target.data);
        if (target.add) {
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
                for (int j = 0; j < kVectors; ++j) {
                    sums[i][j] += load<A>(data + i * target.row_stride + j * kLanesHere);
                }
            }
        }
        if (target.bias != nullptr) {
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; ++j) {
                const Vec<A> bias = tile_bias(target, j * kLanesHere);
#pragma GCC unroll 8
                for (int i = 0; i < kRows; ++i) sums[i][j] += bias;
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; ++j) {
                store<A>(data + i * target.row_stride + j * kLanesHere, sums[i][j]);
            }
        }
    }
}

}  // namespace gemm_detail

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
    if (target.far) {  // on its way while the sums are formed, so that no store waits
        const std::int64_t row_bytes =
            target.row_stride * (target.store_bf16 ? 2 : static_cast<std::int64_t>(sizeof(Scalar)));
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; ++j) {
                __builtin_prefetch(
                    static_cast<const char*>(target.data) + i * row_bytes + j * kVectorBytes, 1);
            }
        }
    }
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
    if (target.store_bf16) {
        gemm_detail::store_sums<bfloat16, Scalar, kRows, kVectors>(sums, target);
    } else {
        gemm_detail::store_sums<Scalar, Scalar, kRows, kVectors>(sums, target);
    }
}

template <class P>
using TileKernel = void (*)(const TileOperands<P>&,
                            const TileTarget<typename TileArithmetic<P>::Scalar>&);

// The kernel for `rows` (1 to kTileRows) and `vectors` (1 to kTileVectors).
template <class P>
inline TileKernel<P> tile_kernel(std::int64_t rows, std::int64_t vectors) {
#define TEMPRA_TILE_ROW(count) \
    { multiply_tile<P, count, 1>, multiply_tile<P, count, 2>, multiply_tile<P, count, 3> }
    static constexpr TileKernel<P> kKernels[kTileRows][kTileVectors] = {
        TEMPRA_TILE_ROW(1),
        TEMPRA_TILE_ROW(2),
        TEMPRA_TILE_ROW(3),
        TEMPRA_TILE_ROW(4),
#if defined(__AVX512F__)
        TEMPRA_TILE_ROW(5),
        TEMPRA_TILE_ROW(6),
        TEMPRA_TILE_ROW(7),
        TEMPRA_TILE_ROW(8),
#endif
    };
#undef TEMPRA_TILE_ROW
    return kKernels[rows - 1][vectors - 1];
}

}  // namespace tempra::cpu::TEMPRA_ISA
