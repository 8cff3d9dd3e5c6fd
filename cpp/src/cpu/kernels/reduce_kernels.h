// The inner loops of a reduction, for one operation and dtype, behind function pointers.
//
// Floats are combined in fp32 (f64 for f64), at most 64 to an accumulator (kRunBlock elements or
// kFlushRows rows), and those partial results in double, so that the rounding error does not grow
// with the length. Products are taken in double throughout: a partial one may leave fp32's
// range although the whole does not. Integers are combined in i64 and wrap.
#pragma once

#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr std::int64_t kRunBlock = 64 * 4 * kLanes<float>;
inline constexpr std::int64_t kFlushRows = 64;
inline constexpr int kRowsAtOnce = 8;

// Total: double, or int64 for integers and truth values.
template <class Total>
struct ReduceKernels {
    Total identity;
    std::int64_t element_size;
    // total = total op data[0] op ... op data[n - 1]
    void (*run)(const char* data, std::int64_t n, Total& total);
    // partials[i] = identity
    void (*start)(char* partials, std::int64_t n);
    // partials[i] = partials[i] op rows[0][i] op ... ; at most kRowsAtOnce rows
    void (*rows)(const char* const* rows, int row_count, std::int64_t n, char* partials);
    // totals[i] = totals[i] op partials[i]
    void (*flush)(const char* partials, std::int64_t n, Total* totals);
    Total (*combine)(Total a, Total b);
};

// Operations on scalars and vectors alike.
struct SumOperation {
    template <class A>
    static constexpr A identity() {
        return A(0);
    }
    template <class V>
    static V combine(V a, V b) {
        return a + b;
    }
};
struct ProductOperation {
    template <class A>
    static constexpr A identity() {
        return A(1);
    }
    template <class V>
    static V combine(V a, V b) {
        return a * b;
    }
};
struct MaximumOperation {  // NaN wins
    template <class A>
    static constexpr A identity() {
        if constexpr (__is_same(A, std::int64_t)) {
            return INT64_MIN;
        } else {
            return -static_cast<A>(__builtin_inf());
        }
    }
    template <class V>
    static V combine(V a, V b) {
        return ((b > a) | (b != b)) ? b : a;
    }
};
struct MinimumOperation {
    template <class A>
    static constexpr A identity() {
        if constexpr (__is_same(A, std::int64_t)) {
            return INT64_MAX;
        } else {
            return static_cast<A>(__builtin_inf());
        }
    }
    template <class V>
    static V combine(V a, V b) {
        return ((b < a) | (b != b)) ? b : a;
    }
};

template <class T>
inline constexpr bool kIsFloating = __is_same(T, float) || __is_same(T, double) ||
                                    __is_same(T, bfloat16);

// Integers pass through unsigned, where wrapping is defined.
template <class Operation>
inline std::int64_t combine_integers(std::int64_t a, std::int64_t b) {
    if constexpr (__is_same(Operation, SumOperation) || __is_same(Operation, ProductOperation)) {
        return static_cast<std::int64_t>(
            Operation::combine(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
    } else {
        return Operation::combine(a, b);
    }
}
template <class Operation, class Total>
inline Total combine_totals(Total a, Total b) {
    if constexpr (__is_same(Total, std::int64_t)) {
        return combine_integers<Operation>(a, b);
    } else {
        return Operation::combine(a, b);
    }
}

template <class T, class Total>
inline Total to_total(T value) {
    if constexpr (kIsFloating<T>) {
        return static_cast<Total>(to_arithmetic(value));
    } else {
        return static_cast<Total>(value);
    }
}

// Whole vectors in four accumulators; the padding of the last vector is the identity.
template <class Operation, class T>
inline Arithmetic<T> reduce_block(const T* data, std::int64_t n) {
    using A = Arithmetic<T>;
    constexpr std::int64_t kStep = kLanes<A>;
    const Vec<A> identity = broadcast<A>(Operation::template identity<A>());
    Vec<A> v0 = identity, v1 = identity, v2 = identity, v3 = identity;
    std::int64_t i = 0;
    for (; i + 4 * kStep <= n; i += 4 * kStep) {
        v0 = Operation::combine(v0, load<A>(data + i));
        v1 = Operation::combine(v1, load<A>(data + i + kStep));
        v2 = Operation::combine(v2, load<A>(data + i + 2 * kStep));
        v3 = Operation::combine(v3, load<A>(data + i + 3 * kStep));
    }
    for (; i + kStep <= n; i += kStep) v0 = Operation::combine(v0, load<A>(data + i));
    if (i < n) {
        v1 = Operation::combine(
            v1, load_partial<A>(data + i, n - i, Operation::template identity<A>()));
    }
    const Vec<A> all = Operation::combine(Operation::combine(v0, v1), Operation::combine(v2, v3));
    return reduce_lanes<A>(all, [](auto a, auto b) { return Operation::combine(a, b); });
}

// Partial results over rows: fp32 in vectors where the operation allows it, else totals.
template <class Operation, class T, class Total>
struct ReduceImplementation {
    static constexpr bool kVectors = kIsFloating<T> && !__is_same(Operation, ProductOperation);

    template <class U, bool kUsed>
    struct PartialOf {
        using type = Total;
    };
    template <class U>
    struct PartialOf<U, true> {
        using type = Arithmetic<U>;
    };
    using Partial = typename PartialOf<T, kVectors>::type;

    static void run(const char* bytes, std::int64_t n, Total& total) {
        const T* data = reinterpret_cast<const T*>(bytes);
        if constexpr (kVectors) {
            for (std::int64_t i = 0; i < n; i += kRunBlock) {
                const std::int64_t count = n - i < kRunBlock ? n - i : kRunBlock;
                total = Operation::combine(
                    total, static_cast<Total>(reduce_block<Operation>(data + i, count)));
            }
        } else {
            Total lanes[4];
            for (Total& lane : lanes) lane = Operation::template identity<Total>();
            std::int64_t i = 0;
            for (; i + 4 <= n; i += 4) {
                for (int k = 0; k < 4; ++k) {
                    lanes[k] = combine_totals<Operation>(lanes[k], to_total<T, Total>(data[i + k]));
                }
            }
            for (; i < n; ++i) {
                lanes[0] = combine_totals<Operation>(lanes[0], to_total<T, Total>(data[i]));
            }
            for (const Total lane : lanes) total = combine_totals<Operation>(total, lane);
        }
    }

    static void start(char* bytes, std::int64_t n) {
        Partial* partials = reinterpret_cast<Partial*>(bytes);
        for (std::int64_t i = 0; i < n; ++i) partials[i] = Operation::template identity<Partial>();
    }

    static void rows(const char* const* row_bytes, int row_count, std::int64_t n, char* bytes) {
        Partial* partials = reinterpret_cast<Partial*>(bytes);
        if constexpr (kVectors) {
            const T* row[kRowsAtOnce];
            for (int r = 0; r < row_count; ++r) row[r] = reinterpret_cast<const T*>(row_bytes[r]);
            std::int64_t i = 0;
            if (row_count == kRowsAtOnce) {
                for (; i + kLanes<Partial> <= n; i += kLanes<Partial>) {
                    Vec<Partial> v = load<Partial>(partials + i);
                    for (int r = 0; r < kRowsAtOnce; ++r) {
                        v = Operation::combine(v, load<Partial>(row[r] + i));
                    }
                    store<Partial>(partials + i, v);
                }
            }
            for (; i < n; i += kLanes<Partial>) {
                const std::int64_t count = n - i < kLanes<Partial> ? n - i : kLanes<Partial>;
                Vec<Partial> v = load_partial<Partial>(partials + i, count);
                for (int r = 0; r < row_count; ++r) {
                    v = Operation::combine(v, load_partial<Partial>(row[r] + i, count));
                }
                store_partial<Partial>(partials + i, v, count);
            }
        } else {
            for (int r = 0; r < row_count; ++r) {
                const T* row = reinterpret_cast<const T*>(row_bytes[r]);
                for (std::int64_t i = 0; i < n; ++i) {
                    partials[i] =
                        combine_totals<Operation>(partials[i], to_total<T, Total>(row[i]));
                }
            }
        }
    }

    static void flush(const char* bytes, std::int64_t n, Total* totals) {
        const Partial* partials = reinterpret_cast<const Partial*>(bytes);
        for (std::int64_t i = 0; i < n; ++i) {
            totals[i] = combine_totals<Operation>(totals[i], static_cast<Total>(partials[i]));
        }
    }

    static ReduceKernels<Total> kernels() {
        return {Operation::template identity<Total>(), sizeof(T), run, start, rows, flush,
                combine_totals<Operation, Total>};
    }
};

}  // namespace tempra::cpu::TEMPRA_ISA
