// What happens to the sums of a matrix product on their way to c, in arithmetic precision and in
// this order, with one rounding at the store:
//
//   x += bias            the value stored as pre_activation
//   x  = activation(x)   or, in the backward form, x * activation'(activation_input)
//   x += residual
//   x += c               when accumulating
//
// Rows of a tile, vectors of columns; the tile lies in L1. Bytes: each present operand once.
#pragma once

#include "dispatch/kernel_table.h"
#include "kernels/unary_tables.h"
#include "simd/activation.h"

namespace tempra::cpu::TEMPRA_ISA {

// C: storage type of c; T: of a and b. Pointers are null when absent; strides are per row.
template <class T, class C>
struct Epilogue {
    C* c = nullptr;
    std::int64_t c_stride = 0;
    const T* bias = nullptr;  // one of these two
    const float* bias_f32 = nullptr;
    const C* residual = nullptr;
    std::int64_t residual_stride = 0;
    C* pre_activation = nullptr;
    std::int64_t pre_activation_stride = 0;
    const C* activation_input = nullptr;
    std::int64_t activation_input_stride = 0;
    Activation activation = Activation::none;
    const float* activation_table = nullptr;  // of the activation, indexed by bf16 numbers
    bool accumulate = false;

    // True when c = sums + bias or c += sums.
    [[nodiscard]] bool at_most_bias() const {
        return residual == nullptr && pre_activation == nullptr && activation_input == nullptr &&
               activation == Activation::none &&
               (!accumulate || (bias == nullptr && bias_f32 == nullptr)) &&
               (__is_same(T, double) ? bias_f32 == nullptr : true);
    }
    // True when c = sums or c += sums.
    [[nodiscard]] bool plain() const {
        return at_most_bias() && bias == nullptr && bias_f32 == nullptr;
    }
    [[nodiscard]] const void* bias_at(std::int64_t column) const {
        if (bias != nullptr) return bias + column;
        return bias_f32 != nullptr ? bias_f32 + column : nullptr;
    }
};

namespace gemm_detail {

template <bool kFull, class A, class S>
inline Vec<A> read(const S* p, std::int64_t count) {
    if constexpr (kFull) {
        return load<A>(p);
    } else {
        return load_partial<A>(p, count);
    }
}
template <bool kFull, class A, class S>
inline void write(S* p, const Vec<A>& v, std::int64_t count) {
    if constexpr (kFull) {
        store<A>(p, v);
    } else {
        store_partial<A>(p, v, count);
    }
}

template <bool kFull, class A>
inline Vec<A> read_bias_f32(const float* p, std::int64_t count) {
    if constexpr (__is_same(A, float)) {
        return read<kFull, A>(p, count);
    } else {
        A lanes[kLanes<A>] = {};
        for (std::int64_t i = 0; i < count; ++i) lanes[i] = static_cast<A>(p[i]);
        return load<A>(lanes);
    }
}

template <bool kFull, class T, class C>
inline void finish_vector(const Epilogue<T, C>& e, Vec<Arithmetic<T>> x, std::int64_t row,
                          std::int64_t column, std::int64_t count) {
    using A = Arithmetic<T>;
    if (e.bias != nullptr) x += read<kFull, A>(e.bias + column, count);
    if (e.bias_f32 != nullptr) x += read_bias_f32<kFull, A>(e.bias_f32 + column, count);
    if (e.pre_activation != nullptr) {
        write<kFull, A>(e.pre_activation + row * e.pre_activation_stride + column, x, count);
    }
    if (e.activation_input != nullptr) {
        x *= activation_derivative<A>(
            e.activation,
            read<kFull, A>(e.activation_input + row * e.activation_input_stride + column, count));
    } else if (e.activation != Activation::none) {
        // Of the value as it is stored, so that a backward pass that has the stored one finds the
        // same activation.
        if constexpr (!__is_same(A, C)) {
            C stored[kLanes<A>];
            store<A>(stored, x);
            if (kActivationsFromTable && e.activation_table != nullptr) {
                x = look_up(e.activation_table, stored);
            } else {
                x = activate<A>(e.activation, load<A>(stored));
            }
        } else {
            x = activate<A>(e.activation, x);
        }
    }
    if (e.residual != nullptr) {
        x += read<kFull, A>(e.residual + row * e.residual_stride + column, count);
    }
    C* target = e.c + row * e.c_stride + column;
    if (e.accumulate) x += read<kFull, A>(target, count);
    write<kFull, A>(target, x, count);
}

}  // namespace gemm_detail

// `tile` holds the sums of rows [row, row + rows) and columns [column, column + columns) of c;
// `partial`, when not null, the sums over earlier blocks of k.
template <class T, class C>
void finish_tile(const Epilogue<T, C>& e, const Arithmetic<T>* tile, std::int64_t tile_stride,
                 const Arithmetic<T>* partial, std::int64_t partial_stride, std::int64_t row,
                 std::int64_t rows, std::int64_t column, std::int64_t columns) {
    using A = Arithmetic<T>;
    constexpr int kLanesHere = kLanes<A>;
    for (std::int64_t i = 0; i < rows; ++i) {
        std::int64_t j = 0;
        for (; j + kLanesHere <= columns; j += kLanesHere) {
            Vec<A> x = load<A>(tile + i * tile_stride + j);
            if (partial != nullptr) x += load<A>(partial + i * partial_stride + j);
            gemm_detail::finish_vector<true>(e, x, row + i, column + j, kLanesHere);
        }
        if (j < columns) {
            Vec<A> x = load<A>(tile + i * tile_stride + j);
            if (partial != nullptr) {
                x += load_partial<A>(partial + i * partial_stride + j, columns - j);
            }
            gemm_detail::finish_vector<false>(e, x, row + i, column + j, columns - j);
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
