// Packing for the matrix product: a slice of up to a panel's width of columns becomes
// [k steps][width], the order in which the micro-kernel reads it, zero-padded in both directions.
//
//   operand type   ISA            packed element                          k per step
//   f32, f64       all            the value                               1
//   bf16           avx512_bf16    two values adjacent in k, low half first 2
//   bf16           others         the value as f32                        1
//
// The same function packs B (columns are columns) and A (columns are rows of A). Column-contiguous
// sources are copied row by row (bf16 pairs: two rows interleaved), k-contiguous ones go through a
// register transpose; bytes moved: once in, once out.
#pragma once

#include <utility>  // integer_sequence, a type only

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

template <class V, int kWidth, int... kLane>
inline void exchange(V& upper, V& lower, std::integer_sequence<int, kLane...> /*lanes*/) {
    constexpr int kCount = sizeof...(kLane);
#if defined(__clang__)
    const V a = __builtin_shufflevector(upper, lower,
                                        ((kLane & kWidth) ? kLane - kWidth + kCount : kLane)...);
    const V b = __builtin_shufflevector(upper, lower,
                                        ((kLane & kWidth) ? kLane + kCount : kLane + kWidth)...);
#else
    const V a =
        __builtin_shuffle(upper, lower, V{((kLane & kWidth) ? kLane - kWidth + kCount : kLane)...});
    const V b =
        __builtin_shuffle(upper, lower, V{((kLane & kWidth) ? kLane + kCount : kLane + kWidth)...});
#endif
    upper = a;
    lower = b;
}

template <class V, int kCount, int kWidth>
inline void transpose_stage(V* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
        if ((i & kWidth) == 0) {
            exchange<V, kWidth>(rows[i], rows[i + kWidth],
                                std::make_integer_sequence<int, kCount>{});
        }
    }
}

// Square transpose in registers: stage w swaps the off-diagonal w x w blocks.
template <class V, int kCount>
inline void transpose(V* rows) {
    transpose_stage<V, kCount, 1>(rows);
    if constexpr (kCount > 2) transpose_stage<V, kCount, 2>(rows);
    if constexpr (kCount > 4) transpose_stage<V, kCount, 4>(rows);
    if constexpr (kCount > 8) transpose_stage<V, kCount, 8>(rows);
}

// `count` packed elements (at most kLanes) that are adjacent in k, from a k-contiguous source.
template <class T>
inline PackedBits<T> load_k_contiguous(const T* source, std::int64_t k_left) {
    using A = Arithmetic<T>;
    constexpr int kLanesHere = kLanes<A>;
    PackedBits<T> bits{};
    if constexpr (kPerStep<T> == 2) {
        const std::int64_t full = 2 * kLanesHere;
        std::memcpy(&bits, source, static_cast<std::size_t>(k_left < full ? k_left : full) * 2);
    } else if (k_left >= kLanesHere) {
        bits = vec_cast<PackedBits<T>>(load<A>(source));
    } else {
        bits = vec_cast<PackedBits<T>>(load_partial<A>(source, k_left));
    }
    return bits;
}

// One step of a column-contiguous source: kLanes columns at `source` (and, for pairs, of the row
// `k_stride` further on when `second` says that there is one).
template <class T>
inline PackedBits<T> load_column_contiguous(const T* source, std::int64_t k_stride, bool second,
                                            std::int64_t columns) {
    using A = Arithmetic<T>;
    constexpr int kLanesHere = kLanes<A>;
    const bool full = columns >= kLanesHere;
    if constexpr (kPerStep<T> == 2) {
        HalfVecUint16 low{}, high{};
        const std::size_t bytes = full ? sizeof(low) : static_cast<std::size_t>(columns) * 2;
        if (full) {
            std::memcpy(&low, source, sizeof(low));
            if (second) std::memcpy(&high, source + k_stride, sizeof(high));
        } else {
            std::memcpy(&low, source, bytes);
            if (second) std::memcpy(&high, source + k_stride, bytes);
        }
        return vec_cast<PackedBits<T>>(__builtin_convertvector(low, VecUint32) |
                                       (__builtin_convertvector(high, VecUint32) << 16));
    } else {
        return vec_cast<PackedBits<T>>(full ? load<A>(source) : load_partial<A>(source, columns));
    }
}

template <class T>
inline Packed<T> load_element(const T* source, std::int64_t k_stride, bool second) {
    if constexpr (kPerStep<T> == 2) {
        const std::uint32_t high = second ? source[k_stride].bits : 0U;
        return {source->bits | (high << 16)};
    } else {
        return to_arithmetic(*source);
    }
}

}  // namespace gemm_detail

// Elements of T at source[k * k_stride + column * column_stride]; `width` is `columns` rounded up
// to whole vectors; `out` has ceil(k / kPerStep) * width elements and is 64-byte aligned.
template <class T>
void pack_panel(const T* source, std::int64_t k_stride, std::int64_t column_stride, std::int64_t k,
                std::int64_t columns, std::int64_t width, Packed<T>* out) {
    constexpr int kLanesHere = kLanes<Arithmetic<T>>;
    constexpr int kStep = kPerStep<T>;
    const std::int64_t steps = (k + kStep - 1) / kStep;
    if (column_stride == 1 || columns == 1) {
        for (std::int64_t step = 0; step < steps; ++step) {
            const T* row = source + step * kStep * k_stride;
            const bool second = step * kStep + 1 < k;
            for (std::int64_t column = 0; column < width; column += kLanesHere) {
                const PackedBits<T> bits = gemm_detail::load_column_contiguous<T>(
                    row + column, k_stride, second, columns - column);
                std::memcpy(out + step * width + column, &bits, sizeof(bits));
            }
        }
        return;
    }
    for (std::int64_t column = 0; column < width; column += kLanesHere) {
        const std::int64_t valid = columns - column < kLanesHere ? columns - column : kLanesHere;
        const T* block = source + column * column_stride;
        if (k_stride != 1 && k != 1) {
            for (std::int64_t step = 0; step < steps; ++step) {
                const bool second = step * kStep + 1 < k;
                for (std::int64_t lane = 0; lane < kLanesHere; ++lane) {
                    const T* element = block + step * kStep * k_stride + lane * column_stride;
                    out[step * width + column + lane] =
                        lane < valid ? gemm_detail::load_element<T>(element, k_stride, second)
                                     : Packed<T>{};
                }
            }
            continue;
        }
        for (std::int64_t step = 0; step < steps; step += kLanesHere) {
            PackedBits<T> rows[kLanesHere];
            const std::int64_t k_left = k - step * kStep;
            if (valid == kLanesHere && k_left >= kLanesHere * kStep) {
#pragma GCC unroll 16
                for (int lane = 0; lane < kLanesHere; ++lane) {
                    rows[lane] = gemm_detail::load_k_contiguous<T>(
                        block + step * kStep + lane * column_stride, kLanesHere * kStep);
                }
            } else {
                for (int lane = 0; lane < kLanesHere; ++lane) {
                    rows[lane] = PackedBits<T>{};
                    if (lane < valid) {
                        rows[lane] = gemm_detail::load_k_contiguous<T>(
                            block + step * kStep + lane * column_stride, k_left);
                    }
                }
            }
            gemm_detail::transpose<PackedBits<T>, kLanesHere>(rows);
            const std::int64_t left = steps - step < kLanesHere ? steps - step : kLanesHere;
            Packed<T>* target = out + step * width + column;
            if (left == kLanesHere) {
#pragma GCC unroll 16
                for (int row = 0; row < kLanesHere; ++row) {
                    std::memcpy(target + row * width, &rows[row], sizeof(rows[row]));
                }
            } else {
                for (int row = 0; row < left; ++row) {
                    std::memcpy(target + row * width, &rows[row], sizeof(rows[row]));
                }
            }
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
