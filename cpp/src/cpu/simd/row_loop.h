// Loops over one row in whole vectors and one partial vector at the end. A body is a generic lambda
// taking the first element's index and the lanes in play (AllLanes or FirstLanes), so that the
// whole vectors compile to plain loads and stores and only the tail is masked.
#pragma once

#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

struct AllLanes {};
struct FirstLanes {
    std::int64_t count;
};

template <class A, class T>
inline Vec<A> load(const T* p, AllLanes, A /*fill*/ = A(0)) {
    return load<A>(p);
}
template <class A, class T>
inline Vec<A> load(const T* p, FirstLanes lanes, A fill = A(0)) {
    return load_partial<A>(p, lanes.count, fill);
}
template <class A, class T>
inline void store(T* p, const Vec<A>& v, AllLanes) {
    store<A>(p, v);
}
template <class A, class T>
inline void store(T* p, const Vec<A>& v, FirstLanes lanes) {
    store_partial<A>(p, v, lanes.count);
}

// body(i, lanes) for i = 0, L, 2L, ...
template <class A, class Body>
inline void for_each_vector(std::int64_t count, const Body& body) {
    constexpr std::int64_t kStep = kLanes<A>;
    std::int64_t i = 0;
    for (; i + kStep <= count; i += kStep) body(i, AllLanes{});
    if (i < count) body(i, FirstLanes{count - i});
}

// body(i, lanes, accumulator): four accumulators taken in turn hide the latency of the additions;
// which element goes to which depends on `count` alone.
template <class A, class Body>
inline void for_each_vector_in_turn(std::int64_t count, const Body& body) {
    constexpr std::int64_t kStep = kLanes<A>;
    std::int64_t i = 0;
    for (; i + 4 * kStep <= count; i += 4 * kStep) {
        body(i, AllLanes{}, 0);
        body(i + kStep, AllLanes{}, 1);
        body(i + 2 * kStep, AllLanes{}, 2);
        body(i + 3 * kStep, AllLanes{}, 3);
    }
    for (; i + kStep <= count; i += kStep) body(i, AllLanes{}, 0);
    if (i < count) body(i, FirstLanes{count - i}, 0);
}

// Four sums (or maxima) kept in registers.
template <class A>
struct FourVectors {
    Vec<A> v[4];

    explicit FourVectors(A initial)
        : v{broadcast<A>(initial), broadcast<A>(initial), broadcast<A>(initial),
            broadcast<A>(initial)} {}
    [[nodiscard]] A sum() const { return reduce_add<A>((v[0] + v[1]) + (v[2] + v[3])); }
    [[nodiscard]] A maximum_of_all() const {
        return reduce_max<A>(maximum<A>(maximum<A>(v[0], v[1]), maximum<A>(v[2], v[3])));
    }
};

// Rows per chunk of a parallel loop: about a microsecond of work, so that a small model's few
// hundred rows still divide evenly.
inline std::int64_t rows_per_chunk(std::int64_t columns) {
    constexpr std::int64_t kElements = 8192;
    return columns >= kElements ? 1 : kElements / (columns > 0 ? columns : 1);
}

}  // namespace tempra::cpu::TEMPRA_ISA
