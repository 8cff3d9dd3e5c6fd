// out = op over any set of dimensions of in: sum, mean, maximum, minimum, product.
//
// Bytes moved: in once, out once. Dimensions are sorted by stride and merged; then either the
// innermost is reduced (rows: vectors along a run) or kept (columns: vectors across outputs, adding
// row after row into a strip that stays in cache). Mapping: outputs over threads; where there are
// few outputs, fixed chunks of the reduced range, whose totals are combined in order. Chunks come
// from the shape alone, so results do not depend on the number of threads. Maximum and minimum
// propagate NaN.
#include <cstring>

#include "kernels/convert.h"
#include "kernels/reduce_kernels.h"
#include "kernels/register.h"
#include "kernels/strided_loop.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kChunkElements = 32768;  // worth a thread's while
constexpr std::int64_t kFewOutputs = 16;        // below: the reduced range is cut as well
constexpr std::int64_t kStrip = 2048;           // columns taken together
constexpr std::int64_t kGatheredStrip = 256;    // the same, when elements must be gathered
constexpr std::int64_t kShortRun = 64;

// Dimensions of one kind, outermost first; strides count elements.
struct Dimensions {
    int count = 0;
    std::int64_t sizes[kMaxDimensions], in_strides[kMaxDimensions], out_strides[kMaxDimensions];

    [[nodiscard]] std::int64_t product() const {
        std::int64_t n = 1;
        for (int d = 0; d < count; ++d) n *= sizes[d];
        return n;
    }
    // Inserts by input stride, largest first.
    void insert(std::int64_t size, std::int64_t in_stride, std::int64_t out_stride) {
        int d = count++;
        for (; d > 0 && in_strides[d - 1] < in_stride; --d) copy(d - 1, d);
        sizes[d] = size;
        in_strides[d] = in_stride;
        out_strides[d] = out_stride;
    }
    void merge() {
        int kept = 0;
        for (int d = 1; d < count; ++d) {
            if (in_strides[kept] == sizes[d] * in_strides[d] &&
                out_strides[kept] == sizes[d] * out_strides[d]) {
                const std::int64_t size = sizes[kept];
                copy(d, kept);
                sizes[kept] *= size;
            } else {
                copy(d, ++kept);
            }
        }
        if (count > 0) count = kept + 1;
    }
    void copy(int from, int to) {
        sizes[to] = sizes[from];
        in_strides[to] = in_strides[from];
        out_strides[to] = out_strides[from];
    }
    // Takes the innermost dimension away; a single element where there is none.
    void take_innermost(std::int64_t& size, std::int64_t& in_stride, std::int64_t& out_stride) {
        if (count == 0) {
            size = 1;
            in_stride = out_stride = 1;
            return;
        }
        --count;
        size = sizes[count];
        in_stride = in_strides[count];
        out_stride = out_strides[count];
    }
    [[nodiscard]] std::int64_t in_offset(std::int64_t position) const {
        return offset(position, in_strides);
    }
    [[nodiscard]] std::int64_t out_offset(std::int64_t position) const {
        return offset(position, out_strides);
    }

  private:
    [[nodiscard]] std::int64_t offset(std::int64_t position, const std::int64_t* strides) const {
        std::int64_t total = 0;
        for (int d = count - 1; d >= 0; --d) {
            total += position % sizes[d] * strides[d];
            position /= sizes[d];
        }
        return total;
    }
};

// The loop nest: `outer_*` around one innermost dimension, which is reduced (rows) or kept.
struct Plan {
    Dimensions kept, reduced;  // without the innermost dimension
    bool rows = false;
    std::int64_t length, in_stride, out_stride;  // of the innermost dimension
    std::int64_t outputs, reduced_count;
    const char* in;
    char* out;
    DType out_dtype;
    ReduceOp op;
};

Plan make_plan(ReduceOp op, const TensorView& in, const TensorView& out) {
    Plan plan;
    for (int d = 0; d < in.dimensions; ++d) {
        if (in.sizes[d] == 1) continue;
        if (out.sizes[d] == in.sizes[d]) {
            plan.kept.insert(in.sizes[d], in.strides[d], out.strides[d]);
        } else {
            plan.reduced.insert(in.sizes[d], in.strides[d], 0);
        }
    }
    plan.outputs = plan.kept.product();
    plan.reduced_count = plan.reduced.product();
    plan.kept.merge();
    plan.reduced.merge();
    const int k = plan.kept.count, r = plan.reduced.count;
    plan.rows = r > 0 && (k == 0 || plan.reduced.in_strides[r - 1] < plan.kept.in_strides[k - 1]);
    (plan.rows ? plan.reduced : plan.kept)
        .take_innermost(plan.length, plan.in_stride, plan.out_stride);
    plan.in = static_cast<const char*>(in.data);
    plan.out = static_cast<char*>(out.data);
    plan.out_dtype = out.dtype;
    plan.op = op;
    return plan;
}

void write_output(const Plan& plan, std::int64_t at, double total) {
    if (plan.op == ReduceOp::mean) total /= static_cast<double>(plan.reduced_count);
    switch (plan.out_dtype) {
        case DType::f32: reinterpret_cast<float*>(plan.out)[at] = static_cast<float>(total); break;
        case DType::bf16:
            reinterpret_cast<bfloat16*>(plan.out)[at] = double_to_bfloat16(total);
            break;
        default: reinterpret_cast<double*>(plan.out)[at] = total; break;
    }
}
void write_output(const Plan& plan, std::int64_t at, std::int64_t total) {
    switch (plan.out_dtype) {
        case DType::i64: reinterpret_cast<std::int64_t*>(plan.out)[at] = total; break;
        case DType::i32:
            reinterpret_cast<std::int32_t*>(plan.out)[at] = static_cast<std::int32_t>(total);
            break;
        default: plan.out[at] = static_cast<char>(total); break;
    }
}

// Reduces elements [begin, end) of the reduced range of the output at `base`.
template <class Total>
Total reduce_range(const Plan& plan, const ReduceKernels<Total>& kernels, const char* base,
                   std::int64_t begin, std::int64_t end) {
    alignas(64) char block[kBlockElements * 8];
    const std::int64_t bytes = kernels.element_size;
    const bool direct =
        plan.in_stride == 1 && (plan.length >= kShortRun || plan.reduced.count == 0);
    Total total = kernels.identity;
    std::int64_t row = begin / plan.length, column = begin % plan.length, gathered = 0;
    while (begin < end) {
        std::int64_t n = plan.length - column < end - begin ? plan.length - column : end - begin;
        const char* data = base + (plan.reduced.in_offset(row) + column * plan.in_stride) * bytes;
        if (direct) {
            kernels.run(data, n, total);
        } else {
            if (n > kBlockElements - gathered) n = kBlockElements - gathered;
            gather_strided(data, plan.in_stride, bytes, n, block + gathered * bytes);
            gathered += n;
            if (gathered == kBlockElements || begin + n == end) {
                kernels.run(block, gathered, total);
                gathered = 0;
            }
        }
        begin += n;
        column += n;
        if (column == plan.length) {
            column = 0;
            ++row;
        }
    }
    return total;
}

template <class Total>
KernelStatus reduce_rows(const Plan& plan, const ReduceKernels<Total>& kernels) {
    const auto base_of = [&](std::int64_t output) {
        return plan.in + plan.kept.in_offset(output) * kernels.element_size;
    };
    const std::int64_t count = plan.reduced_count;
    if (plan.outputs >= kFewOutputs || count <= 2 * kChunkElements) {
        const std::int64_t grain = count >= kChunkElements ? 1 : kChunkElements / count;
        parallel_for(plan.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t output = begin; output < end; ++output) {
                write_output(plan, plan.kept.out_offset(output),
                             reduce_range(plan, kernels, base_of(output), 0, count));
            }
        });
        return kKernelOk;
    }
    const std::int64_t chunks = (count + kChunkElements - 1) / kChunkElements;
    const Scratch scratch(plan.outputs * chunks * static_cast<std::int64_t>(sizeof(Total)));
    if (!scratch.ok()) return kKernelOutOfMemory;
    Total* totals = scratch.as<Total>();
    parallel_for(plan.outputs * chunks, 1, [&](std::int64_t task, std::int64_t) {
        const std::int64_t begin = task % chunks * kChunkElements;
        const std::int64_t end = begin + kChunkElements < count ? begin + kChunkElements : count;
        totals[task] = reduce_range(plan, kernels, base_of(task / chunks), begin, end);
    });
    for (std::int64_t output = 0; output < plan.outputs; ++output) {
        Total total = kernels.identity;
        for (std::int64_t c = 0; c < chunks; ++c) {
            total = kernels.combine(total, totals[output * chunks + c]);
        }
        write_output(plan, plan.kept.out_offset(output), total);
    }
    return kKernelOk;
}

// totals[i] = op over rows [begin, end) of columns i < n, whose first is at `base`.
template <class Total>
void reduce_strip(const Plan& plan, const ReduceKernels<Total>& kernels, const char* base,
                  std::int64_t n, std::int64_t begin, std::int64_t end, Total* totals) {
    alignas(64) char partials[kStrip * 8];
    alignas(64) char gathered[kRowsAtOnce][kGatheredStrip * 8];
    const std::int64_t bytes = kernels.element_size;
    for (std::int64_t i = 0; i < n; ++i) totals[i] = kernels.identity;
    while (begin < end) {
        const std::int64_t stop = begin + kFlushRows < end ? begin + kFlushRows : end;
        kernels.start(partials, n);
        while (begin < stop) {
            const char* rows[kRowsAtOnce];
            int count = 0;
            for (; count < kRowsAtOnce && begin < stop; ++count, ++begin) {
                rows[count] = base + plan.reduced.in_offset(begin) * bytes;
                if (plan.in_stride == 1) continue;
                gather_strided(rows[count], plan.in_stride, bytes, n, gathered[count]);
                rows[count] = gathered[count];
            }
            kernels.rows(rows, count, n, partials);
        }
        kernels.flush(partials, n, totals);
    }
}

// How the work of a column reduction is cut: strips of columns times chunks of rows.
struct ColumnCut {
    std::int64_t strip, strips, chunk_rows, chunks, planes;
};
ColumnCut cut_columns(const Plan& plan) {
    ColumnCut cut;
    cut.strip = plan.in_stride == 1 ? kStrip : kGatheredStrip;
    if (cut.strip > plan.length) cut.strip = plan.length;
    cut.strips = (plan.length + cut.strip - 1) / cut.strip;
    cut.planes = plan.outputs / plan.length;
    cut.chunk_rows = plan.reduced_count;
    if (cut.planes * cut.strips < kFewOutputs) {
        // Rows per chunk: enough work for a thread, and little to combine afterwards.
        const std::int64_t rows = 2 * kChunkElements / cut.strip;
        cut.chunk_rows = rows < 64 ? 64 : rows;
        if (cut.chunk_rows > plan.reduced_count) cut.chunk_rows = plan.reduced_count;
    }
    cut.chunks = (plan.reduced_count + cut.chunk_rows - 1) / cut.chunk_rows;
    return cut;
}

template <class Total>
KernelStatus reduce_columns(const Plan& plan, const ReduceKernels<Total>& kernels) {
    const ColumnCut cut = cut_columns(plan);
    const std::int64_t bytes = kernels.element_size;
    const std::int64_t partial_count = cut.chunks > 1 ? cut.chunks * plan.outputs : 0;
    const Scratch scratch(partial_count * static_cast<std::int64_t>(sizeof(Total)) + 1);
    if (!scratch.ok()) return kKernelOutOfMemory;
    Total* partials = scratch.as<Total>();
    const std::int64_t work = cut.strip * cut.chunk_rows;
    const std::int64_t grain = work >= kChunkElements ? 1 : kChunkElements / work;
    parallel_for(
        cut.planes * cut.strips * cut.chunks, grain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) {
                const std::int64_t chunk = task % cut.chunks,
                                   strip = task / cut.chunks % cut.strips;
                const std::int64_t plane = task / cut.chunks / cut.strips,
                                   first = strip * cut.strip;
                const std::int64_t n =
                    plan.length - first < cut.strip ? plan.length - first : cut.strip;
                const std::int64_t row = chunk * cut.chunk_rows;
                const std::int64_t stop = row + cut.chunk_rows < plan.reduced_count
                                              ? row + cut.chunk_rows
                                              : plan.reduced_count;
                const char* base =
                    plan.in + (plan.kept.in_offset(plane) + first * plan.in_stride) * bytes;
                Total totals[kStrip];
                Total* target = cut.chunks > 1
                                    ? partials + chunk * plan.outputs + plane * plan.length + first
                                    : totals;
                reduce_strip(plan, kernels, base, n, row, stop, target);
                if (cut.chunks > 1) continue;
                const std::int64_t out = plan.kept.out_offset(plane) + first * plan.out_stride;
                for (std::int64_t i = 0; i < n; ++i) {
                    write_output(plan, out + i * plan.out_stride, totals[i]);
                }
            }
        });
    if (cut.chunks == 1) return kKernelOk;
    parallel_for(plan.outputs, 4096, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t chunk = 1; chunk < cut.chunks; ++chunk) {
            for (std::int64_t i = begin; i < end; ++i) {
                partials[i] = kernels.combine(partials[i], partials[chunk * plan.outputs + i]);
            }
        }
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t at =
                plan.kept.out_offset(i / plan.length) + i % plan.length * plan.out_stride;
            write_output(plan, at, partials[i]);
        }
    });
    return kKernelOk;
}

template <class T, class Total>
KernelStatus reduce_typed(const Plan& plan) {
    const auto run = [&](const ReduceKernels<Total>& kernels) {
        return plan.rows ? reduce_rows(plan, kernels) : reduce_columns(plan, kernels);
    };
    switch (plan.op) {
        case ReduceOp::sum:
        case ReduceOp::mean: return run(ReduceImplementation<SumOperation, T, Total>::kernels());
        case ReduceOp::maximum:
            return run(ReduceImplementation<MaximumOperation, T, Total>::kernels());
        case ReduceOp::minimum:
            return run(ReduceImplementation<MinimumOperation, T, Total>::kernels());
        case ReduceOp::product:
            return run(ReduceImplementation<ProductOperation, T, Total>::kernels());
        case ReduceOp::count_: break;
    }
    return kKernelFailed;
}

// The identity where nothing is reduced over; extremes of nothing do not exist.
KernelStatus reduce_nothing(ReduceOp op, const TensorView& out, const Plan& plan) {
    if (plan.outputs == 0) return kKernelOk;
    if (op == ReduceOp::maximum || op == ReduceOp::minimum) return kKernelFailed;
    const bool integers = !is_floating(out.dtype);
    for (std::int64_t i = 0; i < plan.outputs; ++i) {
        const std::int64_t at = plan.kept.out_offset(i);
        if (integers) {
            write_output(plan, at, std::int64_t{op == ReduceOp::product});
        } else {
            write_output(plan, at, op == ReduceOp::product ? 1.0 : 0.0);  // mean: 0 / 0
        }
    }
    return kKernelOk;
}

// out: the dtype of `in`; also f32 for bf16, and i64 for integers and truth values.
bool has_output_dtype(DType in, DType out) {
    switch (in) {
        case DType::f32:
        case DType::f64:
        case DType::i64: return out == in;
        case DType::bf16: return out == in || out == DType::f32;
        case DType::i32:
        case DType::u8:
        case DType::boolean: return out == in || out == DType::i64;
        default: return false;
    }
}

KernelStatus reduce(const KernelContext&, ReduceOp op, const TensorView& in,
                    const TensorView& out) {
    if (!has_output_dtype(in.dtype, out.dtype)) return kKernelUnsupportedDtype;
    if (op == ReduceOp::mean && !is_floating(in.dtype)) return kKernelUnsupportedDtype;
    Plan plan = make_plan(op, in, out);
    if (plan.outputs == 0 || plan.reduced_count == 0) {
        if (!plan.rows) plan.kept.insert(plan.length, plan.in_stride, plan.out_stride);
        return reduce_nothing(op, out, plan);
    }
    switch (in.dtype) {
        case DType::f32: return reduce_typed<float, double>(plan);
        case DType::bf16: return reduce_typed<bfloat16, double>(plan);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return reduce_typed<double, double>(plan);
        case DType::i64: return reduce_typed<std::int64_t, std::int64_t>(plan);
        case DType::i32: return reduce_typed<std::int32_t, std::int64_t>(plan);
        case DType::u8:
        case DType::boolean: return reduce_typed<std::uint8_t, std::int64_t>(plan);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_reduce(KernelTable& table) { table.reduce = reduce; }

}  // namespace tempra::cpu::TEMPRA_ISA
