// The register-tiled inner product that all of attention is made of:
//
//   C[m][n] (+)= sum_s A[m, s] * B[s][n]      m < rows, n < vectors * lanes, s < steps
//
// A is read by broadcasts (any two strides), B by vectors. An element is a float or a double, or a
// pair of bfloat16 in 32 bits, of which vdpbf16ps takes the inner product: the same loop, half the
// steps. A tile is up to 6 rows x 4 vectors (AVX-512: 24 of 32 registers) or 6 x 2 (12 of 16). What
// happens to the finished accumulators is the sink's business.
#pragma once

#include <cstdint>

#include "simd/shuffle.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

#if defined(__AVX512F__)
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileVectors = 2;
#endif

// How a storage type is computed with. Depth: values of the contracted dimension in one element.
template <class T>
struct RealMode {
    using Storage = T;
    using Real = Arithmetic<T>;
    using Element = Real;
    static constexpr int kDepth = 1;
};
struct PairMode {
    using Storage = bfloat16;
    using Real = float;
    using Element = std::uint32_t;
    static constexpr int kDepth = 2;
};

template <class Real>
inline constexpr int kPanel = kTileVectors* kLanes<Real>;  // queries of one block

template <class E>
struct ElementOf {
    using Real = E;
    using Vector = Vec<E>;
};
template <>
struct ElementOf<std::uint32_t> {
    using Real = float;
    using Vector = VecUint32;
};

template <class E>
[[gnu::always_inline]] inline typename ElementOf<E>::Vector load_elements(const E* p) {
    typename ElementOf<E>::Vector v;
    std::memcpy(&v, p, sizeof(v));
    return v;
}

template <class Real>
[[gnu::always_inline]] inline void multiply_add(Vec<Real>& sum, Real a, const Vec<Real>& b) {
    sum += a * b;
}
[[gnu::always_inline]] inline void multiply_add(VecFloat& sum, std::uint32_t a,
                                                const VecUint32& b) {
#if defined(__AVX512BF16__)
    const VecUint32 pair = VecUint32{} + a;
    sum = vec_cast<VecFloat>(
        _mm512_dpbf16_ps(vec_cast<__m512>(sum), vec_cast<__m512bh>(pair), vec_cast<__m512bh>(b)));
#else
    (void)a, (void)b;
    static_assert(sizeof(sum) != 0);
#endif
}

template <class E>
struct TileOperands {
    const E* a;
    std::int64_t a_row, a_step;  // strides in elements
    const E* b;
    std::int64_t b_step;
    std::int64_t steps;  // at least 1
};

template <class E, int kRows, int kVectors, class Sink>
[[gnu::always_inline]] inline void tile(const TileOperands<E>& o, std::int64_t m,
                                        const Sink& sink) {
    using Real = typename ElementOf<E>::Real;
    Vec<Real> sums[kRows][kVectors];
    sink.template begin<kRows, kVectors>(m, sums);
    const E* a = o.a + m * o.a_row;
    const E* b = o.b;
    std::int64_t steps = o.steps;
    do {
        // Opaque, or GCC makes a second loop for a_step == 1 and spills all sums where the two
        // meet.
        asm("" : "+r"(a));
        typename ElementOf<E>::Vector columns[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) columns[v] = load_elements(b + v * kLanes<Real>);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const E value = a[r * o.a_row];
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) multiply_add(sums[r][v], value, columns[v]);
        }
        a += o.a_step;
        b += o.b_step;
    } while (--steps > 0);
    sink.template end<kRows, kVectors>(m, sums);
}

template <class E, int kVectors, class Sink>
[[gnu::noinline]] void product_rows(const TileOperands<E>& o, std::int64_t rows, const Sink& sink) {
    std::int64_t m = 0;
    for (; m + 6 <= rows; m += 6) tile<E, 6, kVectors>(o, m, sink);
    if (m + 4 <= rows) {
        tile<E, 4, kVectors>(o, m, sink);
        m += 4;
    }
    if (m + 2 <= rows) {
        tile<E, 2, kVectors>(o, m, sink);
        m += 2;
    }
    if (m < rows) tile<E, 1, kVectors>(o, m, sink);
}

template <class E, class Sink>
inline void product(const TileOperands<E>& o, std::int64_t rows, std::int64_t vectors,
                    const Sink& sink) {
    static_assert(kTileVectors == 2 || kTileVectors == 4);
    switch (vectors) {
        case 1: return product_rows<E, 1>(o, rows, sink);
        case 2: return product_rows<E, 2>(o, rows, sink);
#if defined(__AVX512F__)
        case 3: return product_rows<E, 3>(o, rows, sink);
        case 4: return product_rows<E, 4>(o, rows, sink);
#endif
        default: return;
    }
}

// Every sum starts at 0.
template <class Real>
struct ZeroStart {
    template <int kRows, int kVectors>
    [[gnu::always_inline]] static void begin(std::int64_t /*m*/,
                                             Vec<Real> (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sums[r][v] = Vec<Real>{};
    }
};

enum class Start { zero, add, rescale };

// C = A B, C += A B, or C = C * column_scale + A B.
template <class Real, Start kStart>
struct OutputSink {
    Real* c;
    std::int64_t ld;
    const Real* column_scale;

    template <int kRows, int kVectors>
    [[gnu::always_inline]] void begin(std::int64_t m, Vec<Real> (&sums)[kRows][kVectors]) const {
        if constexpr (kStart == Start::zero) {
            ZeroStart<Real>::begin(m, sums);
        } else {
            const Real* from = c + m * ld;
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    sums[r][v] = load<Real>(from + r * ld + v * kLanes<Real>);
                    if constexpr (kStart == Start::rescale) {
                        sums[r][v] *= load<Real>(column_scale + v * kLanes<Real>);
                    }
                }
        }
    }
    template <int kRows, int kVectors>
    [[gnu::always_inline]] void end(std::int64_t m, Vec<Real> (&sums)[kRows][kVectors]) const {
        Real* to = c + m * ld;
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                store<Real>(to + r * ld + v * kLanes<Real>, sums[r][v]);
    }
};

struct InterleaveIndices {
    std::uint16_t lane[32];
    constexpr InterleaveIndices() : lane() {
        for (int i = 0; i < 32; ++i) lane[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * 16);
    }
};

// Two rows rounded to bfloat16: side by side (even in the lower half). Pair mode only.
[[gnu::always_inline]] inline VecUint32 round_rows(const VecFloat& even, const VecFloat& odd) {
#if defined(__AVX512BF16__)
    return vec_cast<VecUint32>(_mm512_cvtne2ps_pbh(vec_cast<__m512>(odd), vec_cast<__m512>(even)));
#else
    (void)even, (void)odd;
    return VecUint32{};
#endif
}

// From side by side to lane by lane: pairs. Pair mode only.
[[gnu::always_inline]] inline VecUint32 interleave_rows(const VecUint32& rows) {
#if defined(__AVX512BF16__)
    static constexpr InterleaveIndices indices{};
    __m512i index;
    std::memcpy(&index, indices.lane, sizeof(index));
    return vec_cast<VecUint32>(
        _mm512_maskz_permutexvar_epi16(0xFFFFFFFFU, index, vec_cast<__m512i>(rows)));
#else
    return rows;
#endif
}

}  // namespace tempra::cpu::TEMPRA_ISA
