// Puts slices of q, k, v and grad_out into the orders that attention's inner products read. In
// elements (see attention_tile.h; a pair holds two values of the contracted dimension):
//
//   rows       [rows][depth steps]          contraction over head_dim; read by broadcasts
//   row_steps  [row steps][padded dim]      contraction over rows; read by broadcasts or vectors
//   columns    [depth steps][panel]         contraction over head_dim; read by vectors (transposed)
//
// With one value per element `rows` and `row_steps` are the same array. Padding is zero.
#pragma once

#include "kernels/attention_problem.h"
#include "kernels/attention_tile.h"

namespace tempra::cpu::TEMPRA_ISA {

template <class Real>
inline std::int64_t padded_dim(std::int64_t head_dim) {
    return round_up(head_dim, kLanes<Real>);
}
// Elements between two rows of `rows`.
template <class Mode>
inline std::int64_t row_elements(std::int64_t head_dim) {
    return padded_dim<typename Mode::Real>(head_dim) / Mode::kDepth;
}

// Loads up to one vector of values as Real, zero beyond `count`.
template <class Real, class T>
[[gnu::always_inline]] inline Vec<Real> load_up_to(const T* p, std::int64_t count) {
    if (count >= kLanes<Real>) return load<Real>(p);
    return count > 0 ? load_partial<Real>(p, count) : Vec<Real>{};
}
// Up to one vector of bfloat16 pairs; `count` values remain.
[[gnu::always_inline]] inline VecUint32 load_pairs_up_to(const bfloat16* p, std::int64_t count) {
    VecUint32 v = {};
    if (count >= 2 * kLanes<float>) {
        std::memcpy(&v, p, sizeof(v));
    } else if (count > 0) {
        std::memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(bfloat16));
    }
    return v;
}

template <class Mode>
void pack_rows(const typename Mode::Storage* from, std::int64_t stride, std::int64_t rows,
               std::int64_t head_dim, typename Mode::Element* to) {
    using Real = typename Mode::Real;
    const std::int64_t ld = row_elements<Mode>(head_dim);
    for (std::int64_t i = 0; i < rows; ++i) {
        const typename Mode::Storage* row = from + i * stride;
        if constexpr (Mode::kDepth == 2) {
            // Half a vector of pairs at a time: `ld` is a multiple of half a vector.
            for (std::int64_t d = 0; d < ld * 2; d += kLanes<Real>) {
                HalfVecUint16 half = {};
                const std::int64_t left = head_dim - d;
                if (left >= kLanes<Real>) {
                    std::memcpy(&half, row + d, sizeof(half));
                } else if (left > 0) {
                    std::memcpy(&half, row + d, static_cast<std::size_t>(left) * sizeof(*row));
                }
                std::memcpy(reinterpret_cast<bfloat16*>(to + i * ld) + d, &half, sizeof(half));
            }
        } else {
            for (std::int64_t d = 0; d < ld; d += kLanes<Real>) {
                store<Real>(to + i * ld + d, load_up_to<Real>(row + d, head_dim - d));
            }
        }
    }
}

// Rows beyond `rows`, up to `padded_rows`, are zero.
template <class Mode>
void pack_row_steps(const typename Mode::Storage* from, std::int64_t stride, std::int64_t rows,
                    std::int64_t padded_rows, std::int64_t head_dim, typename Mode::Element* to) {
    using Real = typename Mode::Real;
    const std::int64_t ld = padded_dim<Real>(head_dim);
    if constexpr (Mode::kDepth == 2) {
        for (std::int64_t i = 0; i < padded_rows; i += 2) {
            const bfloat16* even = from + i * stride;
            const bfloat16* odd = even + stride;
            for (std::int64_t d = 0; d < ld; d += kLanes<Real>) {
                const Vec<Real> low =
                    i < rows ? load_up_to<Real>(even + d, head_dim - d) : Vec<Real>{};
                const Vec<Real> high =
                    i + 1 < rows ? load_up_to<Real>(odd + d, head_dim - d) : Vec<Real>{};
                const VecUint32 pair = (vec_cast<VecUint32>(low) >> 16) | vec_cast<VecUint32>(high);
                std::memcpy(to + i / 2 * ld + d, &pair, sizeof(pair));
            }
        }
    } else {
        pack_rows<Mode>(from, stride, rows, head_dim, to);
        std::memset(to + rows * ld, 0,
                    static_cast<std::size_t>((padded_rows - rows) * ld) * sizeof(*to));
    }
}

// `sign` (1, -1 or 0) multiplies every value: exact in every type.
template <class Mode>
void pack_columns(const typename Mode::Storage* from, std::int64_t stride, std::int64_t rows,
                  std::int64_t head_dim, double sign, typename Mode::Element* to) {
    using Real = typename Mode::Real;
    using Vector = typename ElementOf<typename Mode::Element>::Vector;
    constexpr int kCount = kLanes<Real>;
    const std::int64_t steps = ceil_divide(head_dim, Mode::kDepth);
    for (std::int64_t i = 0; i < rows; i += kCount) {
        for (std::int64_t s = 0; s < steps; s += kCount) {
            Vector square[kCount];
            const std::int64_t d = s * Mode::kDepth;
            for (int r = 0; r < kCount; ++r) {
                if (i + r >= rows) {
                    square[r] = Vector{};
                } else if constexpr (Mode::kDepth == 2) {
                    square[r] = load_pairs_up_to(from + (i + r) * stride + d, head_dim - d);
                    if (sign < 0.0) square[r] ^= 0x80008000U;
                    if (sign == 0.0) square[r] = Vector{};
                } else {
                    square[r] = load_up_to<Real>(from + (i + r) * stride + d, head_dim - d) *
                                static_cast<Real>(sign);
                }
            }
            transpose<Vector, kCount>(square);
            const std::int64_t count = min_of(kCount, steps - s);
            for (std::int64_t r = 0; r < count; ++r) {
                std::memcpy(to + (s + r) * kPanel<Real> + i, &square[r], sizeof(Vector));
            }
        }
    }
}

// to[i][d] = from[d][i] * column_scale[i] for `rows` columns of a [head_dim][panel] block.
template <class Real, class T>
void store_transposed(const Real* from, std::int64_t rows, std::int64_t head_dim,
                      const Real* column_scale, T* to, std::int64_t stride) {
    constexpr int kCount = kLanes<Real>;
    for (std::int64_t i = 0; i < rows; i += kCount) {
        const Vec<Real> scale = load<Real>(column_scale + i);
        for (std::int64_t d = 0; d < head_dim; d += kCount) {
            Vec<Real> square[kCount];
            for (int r = 0; r < kCount; ++r) {
                square[r] = d + r < head_dim ? load<Real>(from + (d + r) * kPanel<Real> + i) * scale
                                             : Vec<Real>{};
            }
            transpose<Vec<Real>, kCount>(square);
            const std::int64_t count = min_of(kCount, rows - i);
            for (std::int64_t r = 0; r < count; ++r) {
                T* row = to + (i + r) * stride + d;
                if (d + kCount <= head_dim) {
                    store<Real>(row, square[r]);
                } else {
                    store_partial<Real>(row, square[r], head_dim - d);
                }
            }
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
