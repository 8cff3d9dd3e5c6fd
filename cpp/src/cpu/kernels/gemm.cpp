// Matrix product: c = activation(a @ b + bias) + residual, or c += a @ b.
//
// Loops, outermost first (the classic packed scheme; Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008):
//   column chunk   of b, as much as packs into kPackedBytes (L3)
//   k block        at most kBlockBytes of a panel's column (a panel and a row block of A fit in L2)
//   pack B         unless it came packed
//   row chunk      all of A where it is row-major in the packed type and so is read in place; else
//                  as much as packs into kPackedBytes, and is packed here
//   task           kBlockRows rows x about kTaskColumns columns of c, by groups of rows: TaskGrid
//   panel, tile    the micro-kernel: kTileRows x kTileVectors vectors of c in registers
// Sums over several k blocks pass through c itself (f32) or an f32 buffer, so there is one
// rounding.
//
// Up to kOwnRows rows, where there are columns for all threads, tasks are of columns alone and each
// packs its own part of b: OwnPanels. Products of still fewer rows take another way: gemm_small.h.
//
// Bytes: b is read once and its packed copy once per task row; a once per kTaskColumns or, with
// OwnPanels, per panel; c once, plus a read and a write per further k block. Edges: panels are
// zero-padded, tiles shrink. Determinism: blocks of k follow from the shapes alone; each element of
// c belongs to one task and its sum runs in order of k.
#include "kernels/gemm.h"

#include "kernels/gemm_phase.h"
#include "kernels/gemm_small.h"
#include "kernels/register.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kSerialFlops = 100'000;               // below: not worth a dispatch
constexpr std::int64_t kBatchFlops = std::int64_t{4} << 20;  // below: one task per product

// Few rows: b is streamed, a packed copy of it is not used. False when rows or strides suit neither
// form.
template <class T, class C, class S>
bool multiply_small(const Product<T, C>& p, const S* b, bool serial) {
    const Epilogue<T, C>& e = p.epilogue;
    if (p.m <= kDotRows && ((p.b.row_stride == 1 && p.a.column_stride == 1) || p.k <= 1)) {
        const std::int64_t width = dot_task_columns(p.m, p.n, num_threads());
        run_range(serial, p.n, width, [&](std::int64_t column, std::int64_t end) {
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
        run_range(serial, ceil_divide(p.n, width), 1, [&](std::int64_t begin, std::int64_t end) {
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
    const Workspace<T, C> workspace(product, layout, serial ? 1 : num_threads());
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
            if (!workspace.packs_b) {
                phase.panels = product.packed_b + layout.offset(block, column);
            } else if (!workspace.owns_panels) {
                Packed<T>* out = workspace.packed_b.template as<Packed<T>>();
                pack_operand(layout, product, block, column, columns, serial, out);
                phase.panels = out;
            }
            run_phase<T, C>(phase, layout, block, workspace, serial);
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
    run_range(false, batches, grain, [&](std::int64_t begin, std::int64_t end) {
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
