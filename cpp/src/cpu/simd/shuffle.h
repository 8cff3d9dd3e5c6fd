// Work across the lanes of vectors: put together in another order, summed, transposed in registers.
#pragma once

#include <utility>  // integer_sequence, a type only

#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

// Lane i of the result is lane kLane[i] of `a` followed by `b`.
template <class V, int... kLane>
[[gnu::always_inline]] inline V shuffle(const V& a, const V& b,
                                        std::integer_sequence<int, kLane...> /*lanes*/) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, kLane...);
#else
    using Index = decltype(a < b);  // integers as wide as the lanes
    return __builtin_shuffle(a, b, Index{kLane...});
#endif
}

// The lanes of 0, 1, ... with lane i exchanged for lane i ^ kDistance.
template <int kDistance, int... kLane>
constexpr auto butterfly(std::integer_sequence<int, kLane...> /*lanes*/) {
    return std::integer_sequence<int, (kLane ^ kDistance)...>{};
}

// Sum of all lanes, in a fixed tree: halves first.
template <class Real, int kDistance = kLanes<Real> / 2>
[[gnu::always_inline]] inline Real sum_lanes(const Vec<Real>& v) {
    constexpr std::make_integer_sequence<int, kLanes<Real>> kAll{};
    const Vec<Real> sum = v + shuffle(v, v, butterfly<kDistance>(kAll));
    if constexpr (kDistance > 1) {
        return sum_lanes<Real, kDistance / 2>(sum);
    } else {
        return sum[0];
    }
}

// Of the two rows of a transpose's step: what the upper, and what the lower one becomes.
template <int kWidth, int... kLane>
constexpr auto exchange_upper(std::integer_sequence<int, kLane...> /*lanes*/) {
    constexpr int kCount = sizeof...(kLane);
    return std::integer_sequence<int, ((kLane & kWidth) ? kLane - kWidth + kCount : kLane)...>{};
}
template <int kWidth, int... kLane>
constexpr auto exchange_lower(std::integer_sequence<int, kLane...> /*lanes*/) {
    constexpr int kCount = sizeof...(kLane);
    return std::integer_sequence<int, ((kLane & kWidth) ? kLane + kCount : kLane + kWidth)...>{};
}

// Transposes kCount rows of kCount lanes: step kWidth swaps the off-diagonal blocks of that width.
template <class V, int kCount, int kWidth = kCount / 2>
[[gnu::always_inline]] inline void transpose(V* rows) {
    constexpr std::make_integer_sequence<int, kCount> kAll{};
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
        if ((i & kWidth) != 0) continue;
        const V upper = rows[i], lower = rows[i + kWidth];
        rows[i] = shuffle(upper, lower, exchange_upper<kWidth>(kAll));
        rows[i + kWidth] = shuffle(upper, lower, exchange_lower<kWidth>(kAll));
    }
    if constexpr (kWidth > 1) transpose<V, kCount, kWidth / 2>(rows);
}

}  // namespace tempra::cpu::TEMPRA_ISA
