// One phase of a packed matrix product (gemm.cpp): packing a block of k of both operands and
// multiplying them, task by task.
#pragma once

#include "kernels/gemm_plan.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

inline constexpr std::int64_t kPackTaskElements = 16 * 1024;

template <class Body>
void run_range(bool serial, std::int64_t count, std::int64_t grain, const Body& body) {
    if (serial || count <= grain) {
        for (std::int64_t begin = 0; begin < count; begin += grain) {
            body(begin, smaller(begin + grain, count));
        }
    } else {
        parallel_for(count, grain, body);
    }
}

// Packs a source, cut into tasks along the direction in which it is read.
template <class T, int kWidth, class S>
void pack_source(const PackSource<S>& source, const Panels<T, kWidth>& panels, bool serial) {
    constexpr std::int64_t kLanesHere = kLanes<Arithmetic<T>>;
    if (source.k <= 0) return;
    const bool inline_pack = serial || source.columns * source.k <= kSerialPackElements;
    if (source.columns_contiguous()) {
        const std::int64_t steps = ceil_divide(source.k, kPerStep<T>);
        const std::int64_t grain =
            larger(16, kPackTaskElements / (larger(1, source.columns) * kPerStep<T>));
        run_range(inline_pack, steps, grain, [&](std::int64_t begin, std::int64_t end) {
            pack_steps<T, kWidth, S>(source, begin, end, panels);
        });
    } else {
        const std::int64_t grain = round_up(larger(1, kPackTaskElements / source.k), kLanesHere);
        run_range(inline_pack, source.columns, grain, [&](std::int64_t begin, std::int64_t end) {
            pack_columns<T, kWidth, S>(source, begin, end, panels);
        });
    }
}

// Columns [column, column + columns) of one k block of b, panel after panel.
template <class T, class S>
void pack_b(const PackedLayout<T>& layout, const Matrix<S>& b, std::int64_t block,
            std::int64_t column, std::int64_t columns, bool serial, Packed<T>* out) {
    constexpr int kPanel = static_cast<int>(PackedLayout<T>::kPanel);
    const PackSource<S> source{
        b.data + block * layout.block_k * b.row_stride + column * b.column_stride, b.row_stride,
        b.column_stride, layout.block_size(block), columns};
    pack_source<T, kPanel, S>(
        source, {out, kPanel * layout.steps(block), PackedLayout<T>::padded(columns)}, serial);
}

template <class T, class C>
void pack_operand(const PackedLayout<T>& layout, const Product<T, C>& p, std::int64_t block,
                  std::int64_t column, std::int64_t columns, bool serial, Packed<T>* out) {
    if constexpr (__is_same(T, bfloat16)) {
        if (p.b_f32 != nullptr) {
            const Matrix<float> b{p.b_f32, p.b.row_stride, p.b.column_stride};
            return pack_b<T, float>(layout, b, block, column, columns, serial, out);
        }
    }
    pack_b<T, T>(layout, p.b, block, column, columns, serial, out);
}

// One k block of one column chunk: what its tasks share.
template <class T, class C>
struct Phase {
    using A = Arithmetic<T>;

    const Product<T, C>* product;
    Epilogue<T, C> epilogue;
    std::int64_t k_begin, k_size, steps;
    std::int64_t column, columns;  // the chunk
    const Packed<T>* panels;       // columns of the chunk from `panel_column` on
    std::int64_t panel_column;
    const Packed<T>* a_panels;  // rows from `a_row` on, or null when a is read in place
    std::int64_t a_row, a_panel_stride;
    A* partial;  // sums over k blocks for the chunk, or null when there is only one block
    std::int64_t partial_stride;
    bool first, last;
};

// The sums of one tile of a phase, from the micro-kernel to their destination.
template <class T, class C>
void multiply_and_finish(const Phase<T, C>& phase, const TileOperands<Packed<T>>& operands,
                         std::int64_t row, std::int64_t rows, std::int64_t column,
                         std::int64_t columns) {
    using A = Arithmetic<T>;
    constexpr std::int64_t kLanesHere = kLanes<A>;
    const Epilogue<T, C>& e = phase.epilogue;
    const std::int64_t vectors = ceil_divide(columns, kLanesHere);
    const TileKernel<Packed<T>> kernel = tile_kernel<Packed<T>>(rows, vectors);
    const bool whole = columns % kLanesHere == 0;
    A* partial = phase.partial == nullptr
                     ? nullptr
                     : phase.partial + row * phase.partial_stride + (column - phase.column);
    if (whole && !phase.last) {
        kernel(operands,
               {partial, phase.partial_stride, !phase.first, true, false, false, nullptr});
        return;
    }
    if (whole && e.at_most_bias()) {
        C* target = e.c + row * e.c_stride + column;
        const bool in_place = static_cast<const void*>(partial) == target;
        if (partial == nullptr || in_place) {
            kernel(operands,
                   {target, e.c_stride, in_place || e.accumulate, true, __is_same(C, bfloat16),
                    __is_same(T, bfloat16) && e.bias != nullptr, e.bias_at(column)});
            return;
        }
    }
    alignas(64) A tile[kTileRows * kTileVectors * kLanesHere];
    const std::int64_t tile_stride = vectors * kLanesHere;
    kernel(operands, {tile, tile_stride, false, false, false, false, nullptr});
    const A* earlier = phase.first ? nullptr : partial;
    if (phase.last) {
        finish_tile<T, C>(e, tile, tile_stride, earlier, phase.partial_stride, row, rows, column,
                          columns);
    } else {
        Epilogue<A, A> sum;
        sum.c = partial;
        sum.c_stride = phase.partial_stride;
        finish_tile<A, A>(sum, tile, tile_stride, earlier, phase.partial_stride, 0, rows, 0,
                          columns);
    }
}

// Rows [row, row + rows) and columns [column, column + columns) of the phase's chunk.
template <class T, class C>
void run_task(const Phase<T, C>& phase, std::int64_t row, std::int64_t rows, std::int64_t column,
              std::int64_t columns) {
    constexpr std::int64_t kPanel = PackedLayout<T>::kPanel;
    constexpr std::int64_t kPackedSize = static_cast<std::int64_t>(sizeof(Packed<T>));
    const Matrix<T>& a = phase.product->a;
    TileOperands<Packed<T>> operands{};
    operands.steps = phase.steps;
    if (phase.a_panels == nullptr) {
        operands.single = kPerStep<T> == 2 && phase.k_size % 2 == 1;
        if (operands.single) --operands.steps;
        operands.a_row_bytes = a.row_stride * static_cast<std::int64_t>(sizeof(T));
        operands.a_step_bytes = kPerStep<T> == 1 ? a.column_stride * kPackedSize : kPackedSize;
    } else {
        operands.a_row_bytes = kPackedSize;
        operands.a_step_bytes = kTileRows * kPackedSize;
    }
    // Tiles of about equal height, where packing has not fixed it: short ones are slow.
    const std::int64_t tile_rows =
        phase.a_panels == nullptr ? ceil_divide(rows, ceil_divide(rows, kTileRows)) : kTileRows;
    for (std::int64_t j = 0; j < columns; j += kPanel) {
        const std::int64_t in_chunk = column + j;
        operands.b = phase.panels + (in_chunk - phase.panel_column) * phase.steps;
        for (std::int64_t i = row; i < row + rows; i += tile_rows) {
            operands.a =
                phase.a_panels == nullptr
                    ? reinterpret_cast<const char*>(a.data + i * a.row_stride +
                                                    phase.k_begin * a.column_stride)
                    : reinterpret_cast<const char*>(phase.a_panels + (i - phase.a_row) / kTileRows *
                                                                         phase.a_panel_stride);
            multiply_and_finish<T, C>(phase, operands, i, smaller(tile_rows, row + rows - i),
                                      phase.column + in_chunk, smaller(kPanel, columns - j));
        }
    }
}

// The tasks of rows [row, row + rows).
template <class T, class C>
void run_tasks(const Phase<T, C>& phase, std::int64_t row, std::int64_t rows, bool serial) {
    const TaskGrid grid(rows, phase.columns, PackedLayout<T>::kPanel);
    run_range(serial, grid.row_blocks * grid.column_blocks, 1,
              [&](std::int64_t begin, std::int64_t end) {
                  for (std::int64_t task = begin; task < end; ++task) {
                      const TaskGrid::Place place = grid.place_of(task);
                      const std::int64_t first = place.row_block * grid.row_block;
                      const std::int64_t column = place.column_block * grid.column_block;
                      run_task<T, C>(phase, row + first, smaller(grid.row_block, rows - first),
                                     column, smaller(grid.column_block, phase.columns - column));
                  }
              });
}

// Packs rows [row, row + rows) of the phase's part of a; `copy`: a group's, or 0.
template <class T, class C>
void pack_a(Phase<T, C>& phase, const Workspace<T, C>& workspace, std::int64_t row,
            std::int64_t rows, std::int64_t copy, bool serial) {
    const Matrix<T>& a = phase.product->a;
    const PackSource<T> source{a.data + row * a.row_stride + phase.k_begin * a.column_stride,
                               a.column_stride, a.row_stride, phase.k_size, rows};
    Packed<T>* out = workspace.packed_a.template as<Packed<T>>() + copy * workspace.a_elements;
    pack_source<T, kTileRows, T>(source, {out, workspace.a_panel_stride, round_up(rows, kTileRows)},
                                 serial);
    phase.a_panels = out;
    phase.a_row = row;
    phase.a_panel_stride = workspace.a_panel_stride;
}

// The tasks of one group of OwnPanels.
template <class T, class C>
void run_own_tasks(Phase<T, C> phase, const PackedLayout<T>& layout, std::int64_t block,
                   const Workspace<T, C>& workspace, std::int64_t row, std::int64_t rows,
                   std::int64_t group) {
    const OwnPanels& own = workspace.own;
    if (workspace.copies_a) pack_a<T, C>(phase, workspace, row, rows, group, true);
    Packed<T>* panels = workspace.packed_b.template as<Packed<T>>() + group * workspace.b_elements;
    phase.panels = panels;
    const std::int64_t tasks = ceil_divide(phase.columns, own.columns);  // the last chunk has fewer
    const std::int64_t end = (group + 1) * tasks / workspace.groups;
    for (std::int64_t task = group * tasks / workspace.groups; task < end; ++task) {
        phase.panel_column = task * own.columns;
        const std::int64_t columns = smaller(own.columns, phase.columns - phase.panel_column);
        pack_operand(layout, *phase.product, block, phase.column + phase.panel_column, columns,
                     true, panels);
        run_task<T, C>(phase, row, rows, phase.panel_column, columns);
    }
}

template <class T, class C>
void run_phase(Phase<T, C>& phase, const PackedLayout<T>& layout, std::int64_t block,
               const Workspace<T, C>& workspace, bool serial) {
    const std::int64_t m = phase.product->m;
    for (std::int64_t row = 0; row < m; row += workspace.chunk_rows) {
        const std::int64_t rows = smaller(workspace.chunk_rows, m - row);
        if (workspace.packs_a && !workspace.copies_a) {
            pack_a<T, C>(phase, workspace, row, rows, 0, serial);
        }
        if (workspace.owns_panels) {
            run_range(serial, workspace.groups, 1, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t group = begin; group < end; ++group) {
                    run_own_tasks<T, C>(phase, layout, block, workspace, row, rows, group);
                }
            });
        } else {
            run_tasks<T, C>(phase, row, rows, serial);
        }
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
