// Products with few rows: decoding with a key-value cache, y = x @ W^T, and short batches.
//
// Such a product does little with each weight, so that even tasks that pack for themselves
// (OwnPanels) would take longer: b is streamed from where it lies. Two forms:
//   dots     b k-contiguous (W [n, k]): a few rows of W, in L1, against all rows of a in groups of
//            equal size that fit the registers; vectors along k, one horizontal sum per result. The
//            rows of W that are read together lie far apart: each is a stream of its own that runs
//            through memory in order. Read from within one page they come at half the rate, because
//            no prefetcher makes sense of them.
//   rows     b column-contiguous: a few rows of b scaled and added to sums of kRowColumns columns
//            held in L1; vectors along n
// Bytes: b once, a once per task (it stays in cache), c once. Tasks own columns of c, so threads
// share nothing. Each result is a sum of its own in order of k, so that neither the cut into tasks
// (which follows the number of threads: long streams matter more than balance) nor the number of
// rows changes it.
#pragma once

#include "kernels/gemm_epilogue.h"
#include "kernels/gemm_pack.h"
#include "simd/shuffle.h"

namespace tempra::cpu::TEMPRA_ISA {

// Up to how many rows each form beats packing: the first by its register tile, the second (whose
// sums pass through L1, in fp32 whatever the operands) by less.
inline constexpr int kDotRows = 64;
template <class T>
inline constexpr int kScaledRows = __is_same(Packed<T>, Arithmetic<T>) ? 24 : 5;
inline constexpr std::int64_t kDotColumnStep = 16;
inline constexpr std::int64_t kDotSums = 4096;       // rows x columns of a task
inline constexpr std::int64_t kMostDotColumns = 64;  // of more than kStreamedRows rows
static_assert(kDotRows * kMostDotColumns <= kDotSums);
inline constexpr int kStreamedRows = 8;  // up to as many memory is the bound
inline constexpr std::int64_t kRowColumns = 256;

namespace gemm_detail {

// Vectors along k of one operand type.
template <class T>
struct DotArithmetic {
    using A = Arithmetic<T>;
    using Operand = Vec<A>;
    static constexpr int kElements = kLanes<A>;
    template <class S>
    static Operand read(const S* p) {
        return load_rounded<T, S>(p);
    }
    template <class S>
    static Operand read_partial(const S* p, std::int64_t count) {
        return load_rounded_partial<T, S>(p, count);
    }
    static void multiply_add(Vec<A>& sum, Operand x, Operand w) { sum += x * w; }
};
#if TEMPRA_GEMM_BF16_PAIRS
template <>
struct DotArithmetic<bfloat16> {
    using Operand = __m512i;
    static constexpr int kElements = 2 * kLanes<float>;
    template <class S>
    static Operand read(const S* p) {
        return read_partial(p, kElements);
    }
    template <class S>
    static Operand read_partial(const S* p, std::int64_t count) {
        return vec_cast<Operand>(load_k_contiguous<bfloat16, S>(p, count));
    }
    static void multiply_add(VecFloat& sum, Operand x, Operand w) {
        sum = vec_cast<VecFloat>(
            _mm512_dpbf16_ps(vec_cast<__m512>(sum), vec_cast<__m512bh>(x), vec_cast<__m512bh>(w)));
    }
};
#endif

// out[i * out_stride + j * apart] = sum over k of a[i, k] * b[j * apart, k], i < kRows,
// j < kColumns.
template <class T, class S, int kRows, int kColumns>
inline void dot_tile(const T* a, std::int64_t a_stride, const S* b, std::int64_t b_stride,
                     std::int64_t k, std::int64_t apart, Arithmetic<T>* out,
                     std::int64_t out_stride) {
    using Math = DotArithmetic<T>;
    using A = Arithmetic<T>;
    Vec<A> sums[kRows][kColumns] = {};
    const std::int64_t stream = apart * b_stride;
    std::int64_t p = 0;
    for (; p + Math::kElements <= k; p += Math::kElements) {
        typename Math::Operand w[kColumns];
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j) w[j] = Math::read(b + j * stream + p);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
            const typename Math::Operand x = Math::read(a + i * a_stride + p);
#pragma GCC unroll 4
            for (int j = 0; j < kColumns; ++j) Math::multiply_add(sums[i][j], x, w[j]);
        }
    }
    if (p < k) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
            const typename Math::Operand x = Math::read_partial(a + i * a_stride + p, k - p);
#pragma GCC unroll 4
            for (int j = 0; j < kColumns; ++j) {
                Math::multiply_add(sums[i][j], x, Math::read_partial(b + j * stream + p, k - p));
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j) {
            out[i * out_stride + j * apart] = sum_lanes<A>(sums[i][j]);
        }
    }
}

// Rows and columns of a dot tile: AVX-512 24 sums + 4 columns + 1 row of 32 registers, AVX2 8 sums.
#if defined(__AVX512F__)
inline constexpr int kDotTileRows = 6;
#else
inline constexpr int kDotTileRows = 2;
#endif
inline constexpr int kDotTileColumns = 4;

// The dot tile of `rows` (1 to kDotTileRows) and kColumns columns.
template <class T, class S, int kColumns>
inline void dot_rows(std::int64_t rows, const T* a, std::int64_t a_stride, const S* b,
                     std::int64_t b_stride, std::int64_t k, std::int64_t apart, Arithmetic<T>* out,
                     std::int64_t out_stride) {
    using Function = void (*)(const T*, std::int64_t, const S*, std::int64_t, std::int64_t,
                              std::int64_t, Arithmetic<T>*, std::int64_t);
    static constexpr Function kFunctions[kDotTileRows] = {
        dot_tile<T, S, 1, kColumns>,
        dot_tile<T, S, 2, kColumns>,
#if defined(__AVX512F__)
        dot_tile<T, S, 3, kColumns>,
        dot_tile<T, S, 4, kColumns>,
        dot_tile<T, S, 5, kColumns>,
        dot_tile<T, S, 6, kColumns>,
#endif
    };
    kFunctions[rows - 1](a, a_stride, b, b_stride, k, apart, out, out_stride);
}

// sums[i, j] += sum over kCount rows r of a[i, r] * b[r, j]; `ahead`: elements to prefetch at.
template <class T, class S, int kCount>
inline void add_scaled_rows(const T* a, std::int64_t a_row_stride, std::int64_t a_k_stride,
                            const S* b, std::int64_t b_stride, std::int64_t ahead, std::int64_t m,
                            std::int64_t columns, Arithmetic<T>* sums) {
    using A = Arithmetic<T>;
    constexpr int kLanesHere = kLanes<A>;
    A scales[kScaledRows<T>][kCount];
    for (std::int64_t i = 0; i < m; ++i) {
        for (int r = 0; r < kCount; ++r) {
            scales[i][r] = to_arithmetic(a[i * a_row_stride + r * a_k_stride]);
        }
    }
    for (std::int64_t j = 0; j < columns; j += kLanesHere) {
        const std::int64_t left = columns - j;
        Vec<A> values[kCount];
#pragma GCC unroll 4
        for (int r = 0; r < kCount; ++r) {
            const S* row = b + r * b_stride + j;
            __builtin_prefetch(row + ahead);
            values[r] = left >= kLanesHere ? load_rounded<T, S>(row)
                                           : load_rounded_partial<T, S>(row, left);
        }
        for (std::int64_t i = 0; i < m; ++i) {
            Vec<A> sum = load<A>(sums + i * kRowColumns + j);
#pragma GCC unroll 4
            for (int r = 0; r < kCount; ++r) sum += values[r] * scales[i][r];
            store<A>(sums + i * kRowColumns + j, sum);
        }
    }
}

}  // namespace gemm_detail

// Columns of c in one task. Very few rows are bound by memory, where long streams count: an equal
// part for each thread, unless its sums exceed kDotSums. More are bound by arithmetic, where
// balance counts.
inline std::int64_t dot_task_columns(std::int64_t m, std::int64_t n, std::int64_t threads) {
    if (m > kStreamedRows) return n >= 1024 ? kMostDotColumns : kDotColumnStep;
    const std::int64_t largest = kDotSums / m / kDotColumnStep * kDotColumnStep * threads;
    const std::int64_t tasks = (n + largest - 1) / largest * threads;
    const std::int64_t columns = (n + tasks - 1) / tasks;
    return (columns + kDotColumnStep - 1) / kDotColumnStep * kDotColumnStep;
}

// Columns [column, column + columns) of c, m * columns rounded up to vectors <= kDotSums; a and b
// k-contiguous.
template <class T, class C, class S>
void small_product_dots(const Epilogue<T, C>& e, const T* a, std::int64_t a_stride, const S* b,
                        std::int64_t b_stride, std::int64_t m, std::int64_t k, std::int64_t column,
                        std::int64_t columns) {
    using A = Arithmetic<T>;
    using gemm_detail::kDotTileColumns;
    alignas(64) A sums[kDotSums];
    const std::int64_t stride = (columns + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
    // The tail of a row is read as a vector, so nothing in it may be left unset.
    for (std::int64_t i = 0; i < m; ++i) store<A>(sums + (i + 1) * stride - kLanes<A>, Vec<A>{});
    const std::int64_t groups = (m + gemm_detail::kDotTileRows - 1) / gemm_detail::kDotTileRows;
    const auto each_group = [&](const auto& multiply) {
        for (std::int64_t group = 0; group < groups; ++group) {
            const std::int64_t row = group * m / groups;
            multiply(row, (group + 1) * m / groups - row);
        }
    };
    const std::int64_t apart = columns / kDotTileColumns;
    for (std::int64_t j = 0; j < apart; ++j) {
        each_group([&](std::int64_t row, std::int64_t rows) {
            gemm_detail::dot_rows<T, S, kDotTileColumns>(rows, a + row * a_stride, a_stride,
                                                         b + (column + j) * b_stride, b_stride, k,
                                                         apart, sums + row * stride + j, stride);
        });
    }
    for (std::int64_t j = apart * kDotTileColumns; j < columns; ++j) {
        each_group([&](std::int64_t row, std::int64_t rows) {
            gemm_detail::dot_rows<T, S, 1>(rows, a + row * a_stride, a_stride,
                                           b + (column + j) * b_stride, b_stride, k, 0,
                                           sums + row * stride + j, stride);
        });
    }
    finish_tile<T, C>(e, sums, stride, nullptr, 0, 0, m, column, columns);
}

// Columns [column, column + columns) of c, columns <= kRowColumns; b column-contiguous, a any.
template <class T, class C, class S>
void small_product_rows(const Epilogue<T, C>& e, const T* a, std::int64_t a_row_stride,
                        std::int64_t a_k_stride, const S* b, std::int64_t b_stride, std::int64_t m,
                        std::int64_t k, std::int64_t column, std::int64_t columns) {
    alignas(64) Arithmetic<T> sums[kScaledRows<T> * kRowColumns];
    std::memset(sums, 0, static_cast<std::size_t>(m * kRowColumns) * sizeof(sums[0]));
    for (std::int64_t p = 0; p < k;) {
        const S* rows = b + p * b_stride + column;
        const T* scales = a + p * a_k_stride;
        const std::int64_t ahead = p + 12 < k ? 12 * b_stride : 0;
        if (p + 4 <= k) {
            gemm_detail::add_scaled_rows<T, S, 4>(scales, a_row_stride, a_k_stride, rows, b_stride,
                                                  ahead, m, columns, sums);
            p += 4;
        } else {
            gemm_detail::add_scaled_rows<T, S, 1>(scales, a_row_stride, a_k_stride, rows, b_stride,
                                                  0, m, columns, sums);
            ++p;
        }
    }
    finish_tile<T, C>(e, sums, kRowColumns, nullptr, 0, 0, m, column, columns);
}

}  // namespace tempra::cpu::TEMPRA_ISA
