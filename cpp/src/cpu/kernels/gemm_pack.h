// Packing for the matrix product: columns become panels, [k steps][panel width], the order in which
// the micro-kernel reads them, zero-padded in both directions.
//
//   operand type   ISA            packed element                          k per step
//   f32, f64       all            the value                               1
//   bf16           avx512_bf16    two values adjacent in k, low half first 2
//   bf16           others         the value as f32                        1
//
// The same functions pack B (panels of tile columns) and A (its rows are the columns here, panels
// of tile rows). Column-contiguous sources are copied a few panels at a time, row after row (bf16
// pairs: two rows interleaved), with a prefetch because each row is a new page; k-contiguous ones
// go through a register transpose. Bytes moved: once in, once out. Work may be cut by steps or by
// columns; the result does not depend on the cut.
//
// A source of S = float for operands T = bf16 is rounded as it is packed: fp32 weights need no bf16
// copy beside them, and the packed bits are those that packing such a copy would give.
#pragma once

#include "simd/shuffle.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

#if defined(__AVX512BF16__)
#define TEMPRA_GEMM_BF16_PAIRS 1
#else
#define TEMPRA_GEMM_BF16_PAIRS 0
#endif

// Two bf16 values adjacent in k.
struct Bfloat16Pair {
    std::uint32_t bits;
};

template <class T>
struct GemmPacked {
    using type = Arithmetic<T>;
};
#if TEMPRA_GEMM_BF16_PAIRS
template <>
struct GemmPacked<bfloat16> {
    using type = Bfloat16Pair;
};
#endif
template <class T>
using Packed = typename GemmPacked<T>::type;

// Consecutive k covered by one packed element.
template <class T>
inline constexpr int kPerStep = __is_same(Packed<T>, Bfloat16Pair) ? 2 : 1;

// The vector that holds kLanes packed elements, as bits.
template <class T>
using PackedBits = typename VecOf<Arithmetic<T>>::integer;

namespace gemm_detail {

#if TEMPRA_GEMM_BF16_PAIRS
// The bits of kLanes values as bf16.
inline HalfVecUint16 bfloat16_bits(const bfloat16* source) {
    HalfVecUint16 raw;
    std::memcpy(&raw, source, sizeof(raw));
    return raw;
}
inline HalfVecUint16 bfloat16_bits(const float* source) {
    return to_bfloat16_bits(load<float>(source));
}

// kLanes values at `low` and as many at `high`, as bf16, one behind the other: one instruction.
inline VecInt32 rounded_bits(const VecFloat& low, const VecFloat& high) {
    return vec_cast<VecInt32>(_mm512_cvtne2ps_pbh(vec_cast<__m512>(high), vec_cast<__m512>(low)));
}
inline VecInt32 rounded_bits(const float* low, const float* high) {
    return rounded_bits(load<float>(low), load<float>(high));
}

// Pairs of kLanes values at `low` (the lower halves) and at `high`.
inline VecInt32 interleaved_bits(const bfloat16* low, const bfloat16* high) {
    return vec_cast<VecInt32>(widen(bfloat16_bits(low)) | (widen(bfloat16_bits(high)) << 16));
}
inline VecInt32 interleaved_bits(const float* low, const float* high) {
    using Halves = std::int16_t __attribute__((vector_size(64)));
    constexpr Halves kOrder = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                               8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const VecInt32 behind = rounded_bits(low, high);
    return vec_cast<VecInt32>(_mm512_maskz_permutexvar_epi16(
        ~__mmask32{}, vec_cast<__m512i>(kOrder), vec_cast<__m512i>(behind)));
}

// The same of the first `low_count` and `high_count` values, zeros behind them.
inline VecInt32 interleaved_bits(const bfloat16* low, const bfloat16* high, std::int64_t low_count,
                                 std::int64_t high_count) {
    const __m256i low_bits = _mm256_maskz_loadu_epi16(first_lanes_mask(low_count), low);
    const __m256i high_bits = _mm256_maskz_loadu_epi16(first_lanes_mask(high_count), high);
    return vec_cast<VecInt32>(widen(vec_cast<HalfVecUint16>(low_bits)) |
                              (widen(vec_cast<HalfVecUint16>(high_bits)) << 16));
}
inline VecInt32 interleaved_bits(const float* low, const float* high, std::int64_t low_count,
                                 std::int64_t high_count) {
    const VecFloat low_values = load_partial<float>(low, low_count);
    const VecFloat high_values = load_partial<float>(high, high_count);
    return vec_cast<VecInt32>(widen(to_bfloat16_bits(low_values)) |
                              (widen(to_bfloat16_bits(high_values)) << 16));
}

// `count` adjacent values, up to twice kLanes, zeros behind them.
inline VecInt32 adjacent_bits(const bfloat16* source, std::int64_t count) {
    const auto mask = static_cast<__mmask32>((std::uint64_t{1} << count) - 1);
    return vec_cast<VecInt32>(_mm512_maskz_loadu_epi16(mask, source));
}
inline VecInt32 adjacent_bits(const float* source, std::int64_t count) {
    constexpr int kHalf = kLanes<float>;
    if (count == 2 * kHalf) return rounded_bits(source, source + kHalf);
    const std::int64_t low = count < kHalf ? count : kHalf;
    return rounded_bits(load_partial<float>(source, low),
                        load_partial<float>(source + low, count - low));
}
#endif

// kLanes values of T's arithmetic type (or the first `count`), rounded to T.
template <class T, class S>
inline Vec<Arithmetic<T>> load_rounded(const S* source) {
    using A = Arithmetic<T>;
    const Vec<A> values = load<A>(source);
    if constexpr (__is_same(S, T)) {
        return values;
    } else {
        static_assert(__is_same(T, bfloat16) && __is_same(S, float));
        bfloat16 rounded[kLanes<A>];
        store<A>(rounded, values);
        return load<A>(rounded);
    }
}
template <class T, class S>
inline Vec<Arithmetic<T>> load_rounded_partial(const S* source, std::int64_t count) {
    if constexpr (__is_same(S, T)) {
        return load_partial<Arithmetic<T>>(source, count);
    } else {
        S values[kLanes<Arithmetic<T>>] = {};
        std::memcpy(values, source, static_cast<std::size_t>(count) * sizeof(S));
        return load_rounded<T, S>(values);
    }
}

// kLanes packed elements that are adjacent in k, or the first `k_left` values of them, from a
// k-contiguous source.
template <class T, class S>
inline PackedBits<T> load_k_contiguous(const S* source, std::int64_t k_left) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    if constexpr (kPerStep<T> == 2) {
        constexpr std::int64_t kFull = 2 * kLanesHere;
        return adjacent_bits(source, k_left < kFull ? k_left : kFull);
    } else {
        return vec_cast<PackedBits<T>>(k_left >= kLanesHere
                                           ? load_rounded<T, S>(source)
                                           : load_rounded_partial<T, S>(source, k_left));
    }
}

// One step of a column-contiguous source: kLanes columns at `source` (and, for pairs, of the row
// `k_stride` further on when `second` says that there is one).
template <class T, class S>
inline PackedBits<T> load_column_contiguous(const S* source, std::int64_t k_stride, bool second,
                                            std::int64_t columns) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    const bool full = columns >= kLanesHere;
    if constexpr (kPerStep<T> == 2) {
        if (full && second) {
            return interleaved_bits(source, source + k_stride);
        }
        const std::int64_t count = full ? kLanesHere : (columns > 0 ? columns : 0);
        return interleaved_bits(source, source + k_stride, count, second ? count : 0);
    } else {
        return vec_cast<PackedBits<T>>(
            full ? load_rounded<T, S>(source)
                 : load_rounded_partial<T, S>(source, columns > 0 ? columns : 0));
    }
}

template <class T, class S>
inline T element_of(S value) {
    if constexpr (__is_same(S, T)) {
        return value;
    } else {
        return from_arithmetic<T>(value);
    }
}

template <class T, class S>
inline Packed<T> load_element(const S* source, std::int64_t k_stride, bool second) {
    if constexpr (kPerStep<T> == 2) {
        const std::uint32_t low = element_of<T>(*source).bits;
        const std::uint32_t high = second ? element_of<T>(source[k_stride]).bits : 0U;
        return {low | (high << 16)};
    } else {
        return to_arithmetic(element_of<T>(*source));
    }
}

}  // namespace gemm_detail

// Where panels of kWidth columns go. The last panel of B may be narrower (whole vectors still);
// panels of A always have the full width, which may be less than a vector.
template <class T, int kWidth>
struct Panels {
    Packed<T>* data;
    std::int64_t stride;   // elements from panel to panel
    std::int64_t columns;  // padded: a multiple of a vector, or of kWidth if that is narrower

    // Vector of the columns that begin at `column`, for one step.
    void put(std::int64_t step, std::int64_t column, PackedBits<T> bits) const {
        constexpr int kLanesHere = kLanes<Arithmetic<T>>;
        const std::int64_t panel = column / kWidth;
        Packed<T>* out = data + panel * stride;
        if constexpr (kWidth >= kLanesHere) {
            const std::int64_t left = columns - panel * kWidth;
            const std::int64_t width = left < kWidth ? left : kWidth;
            std::memcpy(out + step * width + column % kWidth, &bits, sizeof(bits));
        } else {
            static_assert(kLanesHere % kWidth == 0);
            constexpr std::size_t kBytes = sizeof(bits) * kWidth / kLanesHere;
            char lanes[sizeof(bits)];
            std::memcpy(lanes, &bits, sizeof(bits));
#pragma GCC unroll 4
            for (int part = 0; part < kLanesHere / kWidth; ++part) {
                if (column + part * kWidth >= columns) return;
                std::memcpy(out + part * stride + step * kWidth, lanes + part * kBytes, kBytes);
            }
        }
    }
};

// Elements of S at data[k * k_stride + column * column_stride].
template <class S>
struct PackSource {
    const S* data;
    std::int64_t k_stride, column_stride;
    std::int64_t k, columns;

    [[nodiscard]] bool columns_contiguous() const { return column_stride == 1 || columns == 1; }
};

// Columns handled together when rows are copied: long enough runs for the hardware prefetcher, few
// enough panels that their half-written lines stay in L1.
inline constexpr std::int64_t kPackStrip = 192;
inline constexpr std::int64_t kPackPrefetchSteps = 8;

namespace gemm_detail {

// One row (bf16 pairs: two rows) of `kCount` columns, all present, to `out` and, kWidth columns
// later, out + stride, ...
template <class T, int kWidth, int kCount, class S>
inline void pack_whole_row(const S* row, std::int64_t k_stride, Packed<T>* out,
                           std::int64_t stride) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
#pragma GCC unroll 16
    for (int column = 0; column < kCount; column += kLanesHere) {
        const PackedBits<T> bits =
            load_column_contiguous<T, S>(row + column, k_stride, true, kLanesHere);
        if constexpr (kWidth >= kLanesHere) {
            std::memcpy(out + column / kWidth * stride + column % kWidth, &bits, sizeof(bits));
        } else {
            constexpr std::size_t kBytes = sizeof(bits) * kWidth / kLanesHere;
            char lanes[sizeof(bits)];
            std::memcpy(lanes, &bits, sizeof(bits));
#pragma GCC unroll 4
            for (int part = 0; part < kLanesHere / kWidth; ++part) {
                std::memcpy(out + (column / kWidth + part) * stride, lanes + part * kBytes, kBytes);
            }
        }
    }
}

}  // namespace gemm_detail

// Steps [begin, end) of all columns of a column-contiguous source.
template <class T, int kWidth, class S>
void pack_steps(const PackSource<S>& source, std::int64_t begin, std::int64_t end,
                const Panels<T, kWidth>& panels) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    constexpr int kStep = kPerStep<T>;
    constexpr int kUnit = kWidth >= kLanesHere ? kWidth : kLanesHere;  // copied in one go
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(S));
    static_assert(kPackStrip % kUnit == 0);
    for (std::int64_t strip = 0; strip < panels.columns; strip += kPackStrip) {
        const std::int64_t strip_end =
            panels.columns - strip < kPackStrip ? panels.columns : strip + kPackStrip;
        for (std::int64_t step = begin; step < end; ++step) {
            const S* row = source.data + step * kStep * source.k_stride;
            const bool second = kStep == 1 || step * kStep + 1 < source.k;
            // Rows ahead; behind the last one, those with which the next strip begins.
            const std::int64_t ahead_step = step + kPackPrefetchSteps;
            const bool wraps = ahead_step >= end;
            const std::int64_t ahead = wraps ? ahead_step - end + begin : ahead_step;
            const std::int64_t ahead_strip = wraps ? strip_end : strip;
            const std::int64_t ahead_end = ahead_strip + kPackStrip < panels.columns
                                               ? ahead_strip + kPackStrip
                                               : panels.columns;
            if (ahead < end) {
                const S* rows = source.data + ahead * kStep * source.k_stride;
                for (int i = 0; i < kStep; ++i) {
                    for (std::int64_t column = ahead_strip; column < ahead_end; column += kLine) {
                        __builtin_prefetch(rows + i * source.k_stride + column);
                    }
                }
            }
            std::int64_t column = strip;
            if (second) {
                Packed<T>* out = panels.data + strip / kWidth * panels.stride + step * kWidth;
                for (; column + kUnit <= strip_end && column + kUnit <= source.columns;
                     column += kUnit) {
                    gemm_detail::pack_whole_row<T, kWidth, kUnit, S>(row + column, source.k_stride,
                                                                     out, panels.stride);
                    out += kUnit / kWidth * panels.stride;
                }
                if constexpr (kWidth > kLanesHere) {  // whole vectors of a narrower last panel
                    const std::int64_t width = panels.columns - column;
                    Packed<T>* last = panels.data + column / kWidth * panels.stride + step * width;
                    for (;
                         column + kLanesHere <= strip_end && column + kLanesHere <= source.columns;
                         column += kLanesHere) {
                        gemm_detail::pack_whole_row<T, kWidth, kLanesHere, S>(
                            row + column, source.k_stride, last, panels.stride);
                        last += kLanesHere;
                    }
                }
            }
            for (; column < strip_end; column += kLanesHere) {
                panels.put(step, column,
                           gemm_detail::load_column_contiguous<T, S>(
                               row + column, source.k_stride, second, source.columns - column));
            }
        }
    }
}

namespace gemm_detail {

// Asks for kCount elements, which begin anywhere in a line.
template <int kCount, class S>
inline void prefetch_run(const S* source) {
    constexpr int kLine = 64 / static_cast<int>(sizeof(S));
#pragma GCC unroll 4
    for (int i = 0; i < kCount; i += kLine) __builtin_prefetch(source + i, 0, 2);
}

}  // namespace gemm_detail

// One vector of columns (from `column`) of a k-contiguous source, all steps.
template <class T, int kWidth, class S>
void pack_transposed(const PackSource<S>& source, std::int64_t column,
                     const Panels<T, kWidth>& panels) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    constexpr int kStep = kPerStep<T>;
    const std::int64_t steps = (source.k + kStep - 1) / kStep;
    const std::int64_t columns_left = source.columns - column;
    const std::int64_t valid = columns_left < kLanesHere ? columns_left : kLanesHere;
    const S* block = source.data + column * source.column_stride;
    // The same place of the next columns: far enough to come from memory, near enough for L2.
    const bool more = columns_left >= 2 * kLanesHere;
    const std::int64_t next = more ? kLanesHere * source.column_stride : 0;
    for (std::int64_t step = 0; step < steps; step += kLanesHere) {
        PackedBits<T> rows[kLanesHere];
        const S* first = block + step * kStep;
        const std::int64_t k_left = source.k - step * kStep;
        const bool whole = valid == kLanesHere && k_left >= kLanesHere * kStep;
        if (whole) {
            const S* ahead = first + next;
#pragma GCC unroll 16
            for (int lane = 0; lane < kLanesHere; ++lane) {
                gemm_detail::prefetch_run<kLanesHere * kStep>(ahead + lane * source.column_stride);
                rows[lane] = gemm_detail::load_k_contiguous<T, S>(
                    first + lane * source.column_stride, kLanesHere * kStep);
            }
        } else {
            for (int lane = 0; lane < kLanesHere; ++lane) {
                rows[lane] = PackedBits<T>{};
                if (lane < valid) {
                    rows[lane] = gemm_detail::load_k_contiguous<T, S>(
                        first + lane * source.column_stride, k_left);
                }
            }
        }
        transpose<PackedBits<T>, kLanesHere>(rows);
        if (whole) {
#pragma GCC unroll 16
            for (int row = 0; row < kLanesHere; ++row) panels.put(step + row, column, rows[row]);
        } else {
            const std::int64_t left = steps - step < kLanesHere ? steps - step : kLanesHere;
            for (int row = 0; row < left; ++row) panels.put(step + row, column, rows[row]);
        }
    }
}

// One vector of columns of a source with no unit stride; rare, so element by element.
template <class T, int kWidth, class S>
void pack_strided(const PackSource<S>& source, std::int64_t column,
                  const Panels<T, kWidth>& panels) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    constexpr int kStep = kPerStep<T>;
    for (std::int64_t k = 0; k < source.k; k += kStep) {
        Packed<T> lanes[kLanesHere] = {};
        for (std::int64_t lane = 0; lane < kLanesHere && column + lane < source.columns; ++lane) {
            lanes[lane] = gemm_detail::load_element<T, S>(
                source.data + k * source.k_stride + (column + lane) * source.column_stride,
                source.k_stride, k + 1 < source.k);
        }
        panels.put(k / kStep, column, vec_cast<PackedBits<T>>(lanes));
    }
}

// Columns [begin, end) of a source that is not column-contiguous; `begin` a multiple of a vector.
template <class T, int kWidth, class S>
void pack_columns(const PackSource<S>& source, std::int64_t begin, std::int64_t end,
                  const Panels<T, kWidth>& panels) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    for (std::int64_t column = begin; column < end; column += kLanesHere) {
        if (source.k_stride == 1 || source.k == 1) {
            pack_transposed<T, kWidth, S>(source, column, panels);
        } else {
            pack_strided<T, kWidth, S>(source, column, panels);
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
