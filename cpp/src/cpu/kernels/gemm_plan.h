// How a matrix product is cut: blocks of k, chunks of columns and rows, the task grid, the working
// memory. The order in which a sum is formed follows from shapes, strides and types, never from the
// number of threads; how columns are cut, and so which task packs a panel and how wide it is, may.
#pragma once

#include "kernels/gemm_epilogue.h"
#include "kernels/gemm_microkernel.h"
#include "kernels/gemm_pack.h"
#include "memory/scratch.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr std::int64_t kBlockRows = 48;
inline constexpr std::int64_t kTaskColumns = 512;
inline constexpr std::int64_t kRowGroups = 8;
inline constexpr std::int64_t kFewTasks = 24;      // below: cut finer
inline constexpr std::int64_t kBlockBytes = 6144;  // of k, per column
inline constexpr std::int64_t kPackedBytes = std::int64_t{6}
                                             << 20;  // packed operand held at a time

// OwnPanels.
inline constexpr std::int64_t kOwnRows = 256;   // up to as many rows of c
inline constexpr std::int64_t kOwnGroups = 16;  // of tasks, or as many as threads
inline constexpr std::int64_t kOwnPanelsTogether = 4;
inline constexpr std::int64_t kOwnPanelBytes = 192 << 10;  // of panels packed together
inline constexpr std::int64_t kNearElements = 256;  // between values of a that are read in place
inline constexpr std::int64_t kCopiedElements = 512 * 1024;  // of all threads' copies of a

inline constexpr std::int64_t kSerialPackElements = 16 * 1024;  // up to as many one thread packs

inline std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_divide(a, b) * b; }
inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// How b is cut, from its own shape, so that gemm_pack and gemm agree.
template <class T>
struct PackedLayout {
    static constexpr std::int64_t kPanel = kTileVectors * kLanes<Arithmetic<T>>;

    std::int64_t k, n;
    std::int64_t block_k;  // elements of k per block, a multiple of kPerStep
    std::int64_t blocks;

    PackedLayout(std::int64_t k_, std::int64_t n_) : k(k_), n(n_) {
        constexpr std::int64_t kMaximum =
            kBlockBytes / static_cast<std::int64_t>(sizeof(Packed<T>)) * kPerStep<T>;
        blocks = larger(1, ceil_divide(k, kMaximum));
        block_k = larger(kPerStep<T>, round_up(ceil_divide(k, blocks), kPerStep<T>));
    }
    [[nodiscard]] std::int64_t block_size(std::int64_t block) const {
        return smaller(block_k, k - block * block_k);
    }
    [[nodiscard]] std::int64_t steps(std::int64_t block) const {
        return ceil_divide(block_size(block), kPerStep<T>);
    }
    [[nodiscard]] static std::int64_t padded(std::int64_t columns) {
        return round_up(columns, kLanes<Arithmetic<T>>);
    }
    // Packed elements before column `column` (a multiple of kPanel) of `block`.
    [[nodiscard]] std::int64_t offset(std::int64_t block, std::int64_t column) const {
        return block * (block_k / kPerStep<T>)*padded(n) + column * steps(block);
    }
    [[nodiscard]] std::int64_t elements() const { return ceil_divide(k, kPerStep<T>) * padded(n); }
};

template <class T>
struct Matrix {
    const T* data;
    std::int64_t row_stride, column_stride;
};

// One product of two matrices.
template <class T, class C>
struct Product {
    using A = Arithmetic<T>;

    std::int64_t m, n, k;
    Matrix<T> a, b;
    const float* b_f32;  // b's data where T is bf16 and b is not: rounded as it is read
    const Packed<T>* packed_b;
    Epilogue<T, C> epilogue;
};

// How c is cut into tasks: a fixed size, finer where that would leave too few.
struct TaskGrid {
    std::int64_t row_block, row_blocks, column_block, column_blocks, groups;

    TaskGrid(std::int64_t rows, std::int64_t columns, std::int64_t panel) {
        const std::int64_t panels = ceil_divide(columns, panel);
        row_block = kBlockRows;
        while (row_block > 16 && ceil_divide(rows, row_block) * panels < kFewTasks) row_block -= 16;
        row_blocks = ceil_divide(rows, row_block);
        row_block = round_up(ceil_divide(rows, row_blocks), kTileRows);
        row_blocks = ceil_divide(rows, row_block);
        const std::int64_t wanted = larger(ceil_divide(columns, kTaskColumns),
                                           smaller(panels, ceil_divide(kFewTasks, row_blocks)));
        column_block = ceil_divide(panels, wanted) * panel;
        column_blocks = ceil_divide(columns, column_block);
        // Of fewer rows, packing B is what costs: a thread then has the columns that it packed.
        groups = rows < columns ? 1 : smaller(row_blocks, kRowGroups);
    }

    struct Place {
        std::int64_t row_block, column_block;
    };
    // Group after group of rows, so that a thread, which runs neighbouring tasks, has the rows that
    // it has in other kernels; in a group, neighbouring tasks share panels of B.
    [[nodiscard]] Place place_of(std::int64_t task) const {
        const std::int64_t group = (task / column_blocks * groups + groups - 1) / row_blocks;
        const std::int64_t first = group * row_blocks / groups;
        const std::int64_t rows = (group + 1) * row_blocks / groups - first;
        const std::int64_t in_group = task - first * column_blocks;
        return {first + in_group % rows, in_group / rows};
    }
};

// How b is cut where c has few rows: each task packs the columns that it multiplies, since no other
// task needs them. A packed panel then stays in its thread's cache, whereas panels that all threads
// pack together are read from each other's caches, which costs more than so few rows' arithmetic.
// Tasks are so wide that no thread gets many more columns than another; several panels together are
// read faster, and panels one vector narrower are multiplied slower.
struct OwnPanels {
    std::int64_t columns;  // of one task: one narrower panel, or whole ones
    std::int64_t tasks;

    // Of `wanted` columns in blocks of `steps`.
    template <class T>
    static OwnPanels of(std::int64_t wanted, std::int64_t steps, std::int64_t threads) {
        constexpr std::int64_t kPanel = PackedLayout<T>::kPanel;
        const auto cut = [&](std::int64_t columns) {
            return OwnPanels{columns, ceil_divide(wanted, columns)};
        };
        // Columns of the thread with the most.
        const auto longest = [&](const OwnPanels& own) {
            return smaller(wanted, ceil_divide(own.tasks, threads) * own.columns);
        };
        const std::int64_t bytes = kPanel * steps * static_cast<std::int64_t>(sizeof(Packed<T>));
        OwnPanels best = cut(kPanel);
        for (std::int64_t together = 2;
             together <= kOwnPanelsTogether && together * bytes <= kOwnPanelBytes; ++together) {
            const OwnPanels wider = cut(together * kPanel);
            if (wider.tasks >= larger(kOwnGroups, threads) && longest(wider) <= longest(best)) {
                best = wider;
            }
        }
        const OwnPanels narrow = cut(kPanel - kLanes<Arithmetic<T>>);
        return 10 * longest(narrow) < 9 * longest(best) ? narrow : best;
    }
    [[nodiscard]] bool suit(std::int64_t rows, std::int64_t threads) const {
        return rows <= kOwnRows && tasks >= threads;
    }
    // Neighbouring tasks, which use one place for their panels one after the other.
    [[nodiscard]] std::int64_t groups(std::int64_t threads) const {
        if (threads == 1) return 1;
        return smaller(tasks, threads * larger(2, ceil_divide(kOwnGroups, threads)));
    }
};

// Whether each thread had better pack all of a for itself than read what others packed.
inline bool copies_suit(std::int64_t rows, std::int64_t k, std::int64_t threads) {
    return rows * k <= kSerialPackElements || rows * k * threads <= kCopiedElements;
}

template <class T, class C>
constexpr bool kSumsFitInC = __is_same(C, Arithmetic<T>);

// Working memory of one product, sized from its shapes.
template <class T, class C>
struct Workspace {
    using A = Arithmetic<T>;
    static constexpr std::int64_t kPanel = PackedLayout<T>::kPanel;
    static constexpr std::int64_t kPackedSize = static_cast<std::int64_t>(sizeof(Packed<T>));

    bool packs_b;
    OwnPanels own;
    bool owns_panels, packs_a, copies_a, buffers_sums;
    std::int64_t groups;  // of own's tasks; each has room for one task's panels, and its copy of a
    std::int64_t chunk_columns, chunk_rows;
    std::int64_t a_panel_stride;  // a line more than a panel: panels must not share cache sets
    std::int64_t a_elements, b_elements;  // packed at a time; by a group, where there are groups
    Scratch packed_a, packed_b, sums;

    Workspace(const Product<T, C>& p, const PackedLayout<T>& layout, std::int64_t threads)
        : packs_b(p.packed_b == nullptr),
          // Sums that pass through memory between blocks of k should stay in cache.
          own(OwnPanels::of<T>(layout.blocks == 1 ? p.n : smaller(p.n, chunk(layout, kPanel)),
                               layout.steps(0), threads)),
          owns_panels(packs_b && own.suit(p.m, threads)),
          packs_a(!reads_a_in_place(p, owns_panels)),
          copies_a(owns_panels && packs_a && copies_suit(p.m, p.k, threads)),
          // Accumulation must not pass through an activation: such sums stay out of c.
          buffers_sums(layout.blocks > 1 &&
                       !(kSumsFitInC<T, C> && (!p.epilogue.accumulate || p.epilogue.plain()))),
          groups(copies_a ? threads : own.groups(threads)),
          chunk_columns(owns_panels && layout.blocks == 1
                            ? p.n
                            : smaller(PackedLayout<T>::padded(p.n), chunk(layout, kPanel))),
          chunk_rows(packs_a ? chunk(layout, kBlockRows) : p.m),
          a_panel_stride(layout.steps(0) * kTileRows + 64 / kPackedSize),
          a_elements(packs_a ? ceil_divide(smaller(chunk_rows, p.m), kTileRows) * a_panel_stride
                             : 0),
          b_elements(packs_b ? (owns_panels ? own.columns : chunk_columns) * layout.steps(0) : 0),
          packed_a(larger(64, (copies_a ? groups : 1) * a_elements * kPackedSize)),
          packed_b(larger(64, (owns_panels ? groups : 1) * b_elements * kPackedSize)),
          sums(buffers_sums ? p.m * chunk_columns * static_cast<std::int64_t>(sizeof(A)) : 64) {}
    [[nodiscard]] bool ok() const { return packed_a.ok() && packed_b.ok() && sums.ok(); }

  private:
    // Pairs of bf16 must be adjacent. Values are read one by one and may lie apart, though not so
    // far that each pass over a long column takes a page of the cache for a line.
    static bool reads_a_in_place(const Product<T, C>& p, bool owns_panels) {
        if (kPackedSize != static_cast<std::int64_t>(sizeof(T)) * kPerStep<T>) return false;
        const bool near = owns_panels && kPerStep<T> == 1 && p.a.row_stride == 1 &&
                          p.a.column_stride <= kNearElements;
        return near || p.a.column_stride == 1 || p.k <= 1;
    }
    // As many columns (or rows), in units of `unit`, as pack into kPackedBytes.
    static std::int64_t chunk(const PackedLayout<T>& layout, std::int64_t unit) {
        const std::int64_t bytes = layout.steps(0) * kPackedSize;
        return larger(1, kPackedBytes / (larger(1, bytes) * unit)) * unit;
    }
};

}  // namespace tempra::cpu::TEMPRA_ISA
