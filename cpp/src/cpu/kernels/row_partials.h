// Sums over rows (gradients of a norm's weight and bias) without atomics: a fixed number of chunks
// of rows, chosen from the shape, each adds into a row of partial sums of its own; the partial rows
// are then added in order. Results do not depend on the number of threads.
#pragma once

#include "memory/scratch.h"
#include "simd/row_loop.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

inline float reciprocal_square_root(float v) { return 1.0F / __builtin_sqrtf(v); }
inline double reciprocal_square_root(double v) { return 1.0 / __builtin_sqrt(v); }

struct RowChunks {
    std::int64_t rows_each;
    std::int64_t count;
};

// At most 64 chunks; no chunk so small that its partial row costs more than its data.
inline RowChunks row_chunks(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kMostChunks = 64, kFewestRows = 16;
    std::int64_t each = (rows + kMostChunks - 1) / kMostChunks;
    if (each < kFewestRows) each = kFewestRows;
    if (each < rows_per_chunk(columns)) each = rows_per_chunk(columns);
    return {each, (rows + each - 1) / each};
}

// Partial rows start on cache lines, so that threads do not share one.
template <class A>
inline std::int64_t padded_columns(std::int64_t columns) {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(A));
    return (columns + kLine - 1) / kLine * kLine;
}

// Zeroes a partial row.
template <class A>
inline void clear_row(A* row, std::int64_t columns) {
    for_each_vector<A>(columns,
                       [&](std::int64_t i, auto lanes) { store<A>(row + i, Vec<A>{}, lanes); });
}

// out[i] += sum over chunks of partials[chunk * stride + i], chunks in order.
template <class A>
inline void add_partial_rows(const A* partials, std::int64_t stride, std::int64_t chunks,
                             std::int64_t columns, A* out) {
    parallel_for(columns, rows_per_chunk(chunks), [&](std::int64_t begin, std::int64_t end) {
        for_each_vector<A>(end - begin, [&](std::int64_t i, auto lanes) {
            const A* column = partials + begin + i;
            Vec<A> sum = load<A>(column, lanes);
            for (std::int64_t k = 1; k < chunks; ++k) sum += load<A>(column + k * stride, lanes);
            store<A>(out + begin + i, load<A>(out + begin + i, lanes) + sum, lanes);
        });
    });
}

}  // namespace tempra::cpu::TEMPRA_ISA
