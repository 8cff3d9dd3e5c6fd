// Matrix product: c = activation(a @ b + bias) + residual, or c += a @ b.
//
// Loops, outermost first (the classic packed scheme; Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008):
//   column chunk   of b, as much as packs into kPackedBytes (L3)
//   k block        at most kBlockBytes of a panel's column (a panel and a row block of A fit in L2)
//   pack B         unless it came packed
//   row chunk      all of A where it is row-major in the packed type and so is read in place; else
//                  as much as packs into kPackedBytes, and is packed here
//   task           kBlockRows rows x about kTaskColumns columns of c
//   panel, tile    the micro-kernel: kTileRows x kTileVectors vectors of c in registers
// Sums over several k blocks pass through c itself (f32) or an f32 buffer, so there is one
// rounding.
//
// Products of few rows take another way: gemm_small.h.
//
// Bytes: b is read once and its packed copy once per task row; a once per kTaskColumns; c once,
// plus a read and a write per further k block. Edges: panels are zero-padded, tiles shrink.
// Determinism: grid and blocks follow from the shapes alone; each element of c belongs to one task
// and its sum runs in order of k.
#include "kernels/gemm.h"

#include "kernels/gemm_plan.h"
#include "kernels/gemm_small.h"
#include "kernels/register.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kSerialFlops = 100'000;               // below: not worth a dispatch
constexpr std::int64_t kBatchFlops = std::int64_t{4} << 20;  // below: one task per product
constexpr std::int64_t kSerialPackElements = 16 * 1024;
constexpr std::int64_t kPackTaskElements = 16 * 1024;

template <class Body>
void run(bool serial, std::int64_t count, std::int64_t grain, const Body& body) {
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
        run(inline_pack, steps, grain, [&](std::int64_t begin, std::int64_t end) {
            pack_steps<T, kWidth, S>(source, begin, end, panels);
        });
    } else {
        const std::int64_t grain = round_up(larger(1, kPackTaskElements / source.k), kLanesHere);
        run(inline_pack, source.columns, grain, [&](std::int64_t begin, std::int64_t end) {
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
    const Packed<T>* panels;
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
        operands.a_step_bytes = kPackedSize;
    } else {
        operands.a_row_bytes = kPackedSize;
        operands.a_step_bytes = kTileRows * kPackedSize;
    }
    // Tiles of about equal height, where packing has not fixed it: short ones are slow.
    const std::int64_t tile_rows =
        phase.a_panels == nullptr ? ceil_divide(rows, ceil_divide(rows, kTileRows)) : kTileRows;
    for (std::int64_t j = 0; j < columns; j += kPanel) {
        const std::int64_t in_chunk = column + j;
        operands.b = phase.panels + in_chunk * phase.steps;
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
    run(serial, grid.row_blocks * grid.column_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
            const TaskGrid::Place place = grid.place_of(task);
            const std::int64_t first = place.row_block * grid.row_block;
            const std::int64_t column = place.column_block * grid.column_block;
            run_task<T, C>(phase, row + first, smaller(grid.row_block, rows - first), column,
                           smaller(grid.column_block, phase.columns - column));
        }
    });
}

template <class T, class C>
void run_phase(Phase<T, C>& phase, const Workspace<T, C>& workspace, bool serial) {
    const Product<T, C>& p = *phase.product;
    for (std::int64_t row = 0; row < p.m; row += workspace.chunk_rows) {
        const std::int64_t rows = smaller(workspace.chunk_rows, p.m - row);
        if (workspace.packs_a) {
            const PackSource<T> source{
                p.a.data + row * p.a.row_stride + phase.k_begin * p.a.column_stride,
                p.a.column_stride, p.a.row_stride, phase.k_size, rows};
            Packed<T>* out = workspace.packed_a.template as<Packed<T>>();
            pack_source<T, kTileRows, T>(
                source, {out, workspace.a_panel_stride, round_up(rows, kTileRows)}, serial);
            phase.a_panels = out;
            phase.a_row = row;
            phase.a_panel_stride = workspace.a_panel_stride;
        }
        run_tasks<T, C>(phase, row, rows, serial);
    }
}

// Few rows: b is streamed, a packed copy of it is not used. False when rows or strides suit neither
// form.
template <class T, class C, class S>
bool multiply_small(const Product<T, C>& p, const S* b, bool serial) {
    const Epilogue<T, C>& e = p.epilogue;
    if (p.m <= kDotRows && ((p.b.row_stride == 1 && p.a.column_stride == 1) || p.k <= 1)) {
        const std::int64_t width = dot_task_columns(p.m, p.n, num_threads());
        run(serial, p.n, width, [&](std::int64_t column, std::int64_t end) {
            small_product_dots<T, C, S>(e, p.a.data, p.a.row_stride, b, p.b.column_stride, p.m, p.k,
                                        column, end - column);
        });
        return true;
    }
    if (p.m <= kScaledRows<T> && (p.b.column_stride == 1 || p.n == 1)) {
        // Whole cache lines, enough tasks for a few threads, sums that leave room in L1.
        const bool wide = p.n >= 16 * kRowColumns && p.m <= 16;
        const std::int64_t narrow = p.n >= 2 * kRowColumns ? kRowColumns / 4 : kRowColumns / 8;
        const std::int64_t width = wide ? kRowColumns : narrow;
        run(serial, ceil_divide(p.n, width), 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t chunk = begin; chunk < end; ++chunk) {
                const std::int64_t column = chunk * width;
                small_product_rows<T, C, S>(e, p.a.data, p.a.row_stride, p.a.column_stride, b,
                                            p.b.row_stride, p.m, p.k, column,
                                            smaller(width, p.n - column));
            }
        });
        return true;
    }
    return false;
}

template <class T, class C>
KernelStatus multiply(const Product<T, C>& product, bool serial) {
    if constexpr (__is_same(T, bfloat16)) {
        if (product.b_f32 != nullptr && multiply_small<T, C>(product, product.b_f32, serial)) {
            return kKernelOk;
        }
    }
    if (product.b_f32 == nullptr && multiply_small<T, C>(product, product.b.data, serial)) {
        return kKernelOk;
    }
    using A = Arithmetic<T>;
    const PackedLayout<T> layout(product.k, product.n);
    const Epilogue<T, C>& e = product.epilogue;
    const Workspace<T, C> workspace(product, layout);
    if (!workspace.ok()) return kKernelOutOfMemory;

    for (std::int64_t column = 0; column < product.n; column += workspace.chunk_columns) {
        const std::int64_t columns = smaller(workspace.chunk_columns, product.n - column);
        for (std::int64_t block = 0; block < layout.blocks; ++block) {
            Phase<T, C> phase{};
            phase.product = &product;
            phase.epilogue = e;
            phase.k_begin = block * layout.block_k;
            phase.k_size = layout.block_size(block);
            phase.steps = layout.steps(block);
            phase.column = column;
            phase.columns = columns;
            phase.first = block == 0;
            phase.last = block == layout.blocks - 1;
            if (workspace.buffers_sums) {
                phase.partial = workspace.sums.template as<A>();
                phase.partial_stride = workspace.chunk_columns;
            } else if constexpr (kSumsFitInC<T, C>) {
                if (layout.blocks > 1) {
                    phase.partial = e.c + column;
                    phase.partial_stride = e.c_stride;
                    // The sums in c contain what was there.
                    phase.first = block == 0 && !e.accumulate;
                    phase.epilogue.accumulate = false;
                }
            }
            if (workspace.packs_b) {
                Packed<T>* out = workspace.packed_b.template as<Packed<T>>();
                pack_operand(layout, product, block, column, columns, serial, out);
                phase.panels = out;
            } else {
                phase.panels = product.packed_b + layout.offset(block, column);
            }
            run_phase<T, C>(phase, workspace, serial);
        }
    }
    return kKernelOk;
}

// A view of one optional operand of a batch.
template <class S>
S* batch_data(const TensorView& view, std::int64_t batch) {
    if (!view.present()) return nullptr;
    const std::int64_t offset = view.dimensions == 3 ? batch * view.strides[0] : 0;
    return view.as<S>() + offset;
}
std::int64_t row_stride_of(const TensorView& view) {
    return view.dimensions >= 2 ? view.stride(-2) : 0;
}

template <class T, class C>
Product<T, C> product_of(const GemmArguments& g, std::int64_t batch) {
    Product<T, C> p{};
    p.m = g.c.size(-2);
    p.n = g.c.size(-1);
    p.k = g.a.size(-1);
    p.a = {batch_data<T>(g.a, batch), g.a.stride(-2), g.a.stride(-1)};
    const bool rounded = g.b.dtype != g.a.dtype;
    p.b = {rounded ? nullptr : batch_data<T>(g.b, batch), g.b.stride(-2), g.b.stride(-1)};
    p.b_f32 = rounded ? batch_data<float>(g.b, batch) : nullptr;
    p.packed_b = static_cast<const Packed<T>*>(g.packed_b);
    Epilogue<T, C>& e = p.epilogue;
    e.c = batch_data<C>(g.c, batch);
    e.c_stride = row_stride_of(g.c);
    if (g.bias.present()) {
        if (__is_same(T, float) || g.bias.dtype != DType::f32) {
            e.bias = g.bias.as<T>();
        } else {
            e.bias_f32 = g.bias.as<float>();
        }
    }
    e.residual = batch_data<C>(g.residual, batch);
    e.residual_stride = row_stride_of(g.residual);
    e.pre_activation = batch_data<C>(g.pre_activation, batch);
    e.pre_activation_stride = row_stride_of(g.pre_activation);
    e.activation_input = batch_data<C>(g.activation_input, batch);
    e.activation_input_stride = row_stride_of(g.activation_input);
    e.activation = g.activation;
    if constexpr (kActivationsFromTable && __is_same(C, bfloat16)) {
        e.activation_table = table_of_activation(g.activation, p.m * p.n);
    }
    e.accumulate = g.accumulate != 0;
    return p;
}

template <class T, class C>
KernelStatus gemm_typed(const GemmArguments& g) {
    const std::int64_t batches = g.c.dimensions == 3 ? g.c.sizes[0] : 1;
    const std::int64_t m = g.c.size(-2), n = g.c.size(-1), k = g.a.size(-1);
    if (batches == 0 || m == 0 || n == 0) return kKernelOk;
    const std::int64_t flops = 2 * m * n * larger(1, k);
    if (batches == 1 || flops >= kBatchFlops) {
        for (std::int64_t batch = 0; batch < batches; ++batch) {
            const KernelStatus status =
                multiply<T, C>(product_of<T, C>(g, batch), flops < kSerialFlops);
            if (status != kKernelOk) return status;
        }
        return kKernelOk;
    }
    std::int32_t first_failure = kKernelOk;
    const std::int64_t grain = ceil_divide(kSerialFlops, flops);
    run(false, batches, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t batch = begin; batch < end; ++batch) {
            const KernelStatus status = multiply<T, C>(product_of<T, C>(g, batch), true);
            if (status != kKernelOk) __atomic_store_n(&first_failure, status, __ATOMIC_RELAXED);
        }
    });
    return __atomic_load_n(&first_failure, __ATOMIC_RELAXED);
}

template <class T>
std::int64_t packed_bytes(const TensorView& b) {
    return PackedLayout<T>(b.size(-2), b.size(-1)).elements() *
           static_cast<std::int64_t>(sizeof(Packed<T>));
}

template <class T>
KernelStatus pack(const TensorView& b, void* packed) {
    const PackedLayout<T> layout(b.size(-2), b.size(-1));
    const Matrix<T> matrix{b.as<T>(), b.stride(-2), b.stride(-1)};
    const bool serial = layout.k * layout.n <= kSerialPackElements;
    for (std::int64_t block = 0; block < layout.blocks; ++block) {
        pack_b<T, T>(layout, matrix, block, 0, layout.n, serial,
                     static_cast<Packed<T>*>(packed) + layout.offset(block, 0));
    }
    return kKernelOk;
}

std::int64_t gemm_packed_bytes(const TensorView& b) {
    if (b.dimensions == 3 && b.sizes[0] > 1 && b.strides[0] != 0) return 0;
    switch (b.dtype) {
        case DType::f32: return packed_bytes<float>(b);
        case DType::bf16: return packed_bytes<bfloat16>(b);
#if TEMPRA_ISA_IS_baseline
        case DType::f64: return packed_bytes<double>(b);
#endif
        default: return 0;
    }
}

KernelStatus gemm_pack(const KernelContext& /*context*/, const TensorView& b, void* packed) {
    switch (b.dtype) {
        case DType::f32: return pack<float>(b, packed);
        case DType::bf16: return pack<bfloat16>(b, packed);
#if TEMPRA_ISA_IS_baseline
        case DType::f64: return pack<double>(b, packed);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

KernelStatus gemm(const KernelContext& /*context*/, const GemmArguments& g) {
    const bool rounded = g.a.dtype == DType::bf16 && g.b.dtype == DType::f32;
    // A packed f32 operand is one for f32 products.
    if (g.a.dtype != g.b.dtype && (!rounded || g.packed_b != nullptr)) {
        return kKernelUnsupportedDtype;
    }
    if (g.bias.present() && g.bias.dtype != g.a.dtype && g.bias.dtype != DType::f32) {
        return kKernelUnsupportedDtype;
    }
    if (g.a.dtype == DType::f32 && g.c.dtype == DType::f32) return gemm_typed<float, float>(g);
    if (g.a.dtype == DType::bf16 && g.c.dtype == DType::bf16) {
        return gemm_typed<bfloat16, bfloat16>(g);
    }
    if (g.a.dtype == DType::bf16 && g.c.dtype == DType::f32) return gemm_typed<bfloat16, float>(g);
#if TEMPRA_ISA_IS_baseline
    if (g.a.dtype == DType::f64 && g.c.dtype == DType::f64) return gemm_typed<double, double>(g);
#endif
    return kKernelUnsupportedDtype;
}

void register_gemm(KernelTable& table) {
    table.gemm = gemm;
    table.gemm_packed_bytes = gemm_packed_bytes;
    table.gemm_pack = gemm_pack;
}

}  // namespace tempra::cpu::TEMPRA_ISA
