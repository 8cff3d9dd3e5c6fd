// loss_i = cross_entropy(hidden_i @ weight^T + bias, label_i) and its gradients, without the matrix
// of all logits: per chunk of rows
//   logits = hidden @ weight^T + bias     one product, fp32 result in scratch
//   losses, dlogits                       per row, in place (cross_entropy_row.h); bf16 for bf16
//   grad_hidden = dlogits @ weight,  grad_weight += dlogits^T @ hidden,
//   grad_bias += sum over rows of dlogits
//
// Three products of 2 * tokens * vocabulary * width; beside them, per logit, one fp32 write and
// read for the loss, one write and two or three reads for the gradients. A chunk has as many rows
// as fit in 64 MB of logits, or 512 rows if those fit in 128 MB (but 64 to 1024). Rows of a chunk
// are split over threads; chunks follow one another, so gradients are added in a fixed order.
// Labels are checked before anything is written. Chunking as in Hsu et al. 2024 (Liger kernel) and
// Wijmans et al. 2024 (cut cross-entropy).
#include "kernels/compute_dtype.h"
#include "kernels/cross_entropy_row.h"
#include "kernels/gemm.h"
#include "kernels/index_range.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

// Fewer rows than kGoodRows cost a tenth and more: every chunk packs weight anew and reads and
// writes all of grad_weight. More than kMostRows gain nothing.
constexpr std::int64_t kLogitBytes = std::int64_t{64} << 20, kMostLogitBytes = 2 * kLogitBytes;
constexpr std::int64_t kFewestRows = 64, kGoodRows = 512, kMostRows = 1024;

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

TensorView matrix(void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                  std::int64_t row_stride, std::int64_t column_stride) {
    TensorView view;
    view.data = data;
    view.dtype = dtype;
    view.dimensions = 2;
    view.sizes[0] = rows;
    view.sizes[1] = columns;
    view.strides[0] = row_stride;
    view.strides[1] = column_stride;
    return view;
}

TensorView transposed(const TensorView& m) {
    return matrix(m.data, m.dtype, m.sizes[1], m.sizes[0], m.strides[1], m.strides[0]);
}

template <class T>
TensorView rows_of(const TensorView& m, std::int64_t first, std::int64_t count) {
    return matrix(static_cast<T*>(m.data) + first * m.strides[0], m.dtype, count, m.sizes[1],
                  m.strides[0], m.strides[1]);
}

// Equal chunks, as few as the bounds allow; from the shapes alone.
std::int64_t choose_chunk_rows(std::int64_t tokens, std::int64_t row_bytes, std::int64_t wanted) {
    if (wanted > 0) return smaller(wanted, tokens);
    const std::int64_t within =
        smaller(larger(kLogitBytes / row_bytes, kGoodRows), kMostLogitBytes / row_bytes);
    const std::int64_t most = smaller(larger(within, kFewestRows), kMostRows);
    if (tokens <= most) return tokens;
    const std::int64_t chunks = (tokens + most - 1) / most;
    const std::int64_t even = (tokens + chunks - 1) / chunks;
    return smaller((even + 15) / 16 * 16, most);
}

// Rows start on cache lines, and not all in the same cache set.
template <class A>
std::int64_t logit_stride(std::int64_t vocabulary) {
    const std::int64_t padded = (vocabulary + 15) / 16 * 16;
    return padded % 512 == 0 ? padded + 16 : padded;
}

bool labels_in_range(const LinearCrossEntropyArguments& a) {
    const std::int64_t vocabulary = a.weight.size(0);
    for (std::int64_t i = 0; i < a.labels.size(0); ++i) {
        const std::int64_t label = index_at(a.labels, i);
        if (label != a.ignore_index && (label < 0 || label >= vocabulary)) return false;
    }
    return true;
}

template <class A>
A& element(const TensorView& vector, std::int64_t i) {
    return vector.as<A>()[i * vector.stride(0)];
}

// Losses of rows [first, first + ...) and, if asked for, the gradient of their logits, in place.
template <class T>
struct RowPass {
    using A = Arithmetic<T>;
    const LinearCrossEntropyArguments& a;
    LossOptions options;
    A* logits;
    std::int64_t stride;
    std::int64_t first;
    bool with_gradient;

    void run(std::int64_t row) const {
        const std::int64_t token = first + row, columns = a.weight.size(0);
        const std::int64_t label = index_at(a.labels, token);
        A* const x = logits + row * stride;
        const bool ignored = label == a.ignore_index;
        if (a.grad_losses.present() && a.log_sum_exps.present()) {
            if (ignored) return clear_gradient_row<T>(x, columns);
            const A lse = element<A>(a.log_sum_exps, token);
            return row_gradient<T, true>(x, columns, label, lse, A(1), static_cast<double>(lse),
                                         scale_of(token), options);
        }
        const bool smooth = options.label_smoothing != 0.0;
        const std::int64_t read_label = ignored ? -1 : label;
        const RowStatistics<A> s = with_gradient
                                       ? row_log_sum_exp<true>(x, columns, read_label, smooth)
                                       : row_log_sum_exp<false>(x, columns, read_label, smooth);
        if (a.losses.present()) {
            element<A>(a.losses, token) =
                ignored ? A(0) : static_cast<A>(row_loss(s, columns, options));
        }
        if (a.log_sum_exps.present()) {
            element<A>(a.log_sum_exps, token) = static_cast<A>(s.log_sum_exp);
        }
        if (!with_gradient) return;
        if (ignored) return clear_gradient_row<T>(x, columns);
        row_gradient<T, false>(x, columns, label, s.largest, s.total, s.log_sum_exp,
                               scale_of(token), options);
    }

    [[nodiscard]] double scale_of(std::int64_t token) const {
        return static_cast<double>(a.grad_losses.present() ? element<A>(a.grad_losses, token)
                                                           : static_cast<A>(a.grad_scale));
    }
};

// grad_bias (+)= column sums of dlogits [rows, vocabulary]; each column is added up in row order.
template <class T>
void add_bias_gradient(const TensorView& dlogits, const TensorView& grad_bias, bool accumulate) {
    using A = Arithmetic<T>;
    const std::int64_t rows = dlogits.size(0);
    parallel_for(dlogits.size(1), rows_per_chunk(rows), [&](std::int64_t begin, std::int64_t end) {
        for_each_vector<A>(end - begin, [&](std::int64_t i, auto lanes) {
            A* const out = grad_bias.as<A>() + begin + i;
            Vec<A> sum = accumulate ? load<A>(out, lanes) : Vec<A>{};
            const T* column = dlogits.as<T>() + begin + i;
            for (std::int64_t r = 0; r < rows; ++r) {
                sum += load<A>(column + r * dlogits.stride(0), lanes);
            }
            store<A>(out, sum, lanes);
        });
    });
}

// The three products of one chunk's gradients. `accumulate`: into what earlier chunks, or the
// caller, left in grad_weight and grad_bias.
template <class T>
KernelStatus chunk_gradients(const KernelContext& context, const LinearCrossEntropyArguments& a,
                             const TensorView& dlogits, std::int64_t first, bool accumulate) {
    const std::int64_t rows = dlogits.size(0);
    if (a.grad_hidden.present()) {
        GemmArguments product;
        product.a = dlogits;
        product.b = a.weight;
        product.c = rows_of<T>(a.grad_hidden, first, rows);
        const KernelStatus status = gemm(context, product);
        if (status != kKernelOk) return status;
    }
    if (a.grad_weight.present()) {
        GemmArguments product;
        product.a = transposed(dlogits);
        product.b = rows_of<T>(a.hidden, first, rows);
        product.c = a.grad_weight;
        product.accumulate = accumulate ? 1 : 0;
        const KernelStatus status = gemm(context, product);
        if (status != kKernelOk) return status;
    }
    if (a.grad_bias.present()) add_bias_gradient<T>(dlogits, a.grad_bias, accumulate);
    return kKernelOk;
}

template <class T>
KernelStatus run(const KernelContext& context, const LinearCrossEntropyArguments& a) {
    using A = Arithmetic<T>;
    constexpr DType kLogitDtype = __is_same(A, double) ? DType::f64 : DType::f32;
    const std::int64_t tokens = a.hidden.size(0), vocabulary = a.weight.size(0);
    const bool with_gradient =
        a.grad_hidden.present() || a.grad_weight.present() || a.grad_bias.present();
    const std::int64_t stride = logit_stride<A>(vocabulary);
    const std::int64_t row_bytes = stride * static_cast<std::int64_t>(sizeof(A));
    const std::int64_t chunk_rows = choose_chunk_rows(tokens, row_bytes, a.chunk_rows);
    const Scratch scratch(chunk_rows * row_bytes);
    if (!scratch.ok()) return kKernelOutOfMemory;
    A* const logits = scratch.as<A>();
    const LossOptions options{a.label_smoothing, a.z_loss};
    // With no tokens at all one empty chunk still clears the gradients that are to be overwritten.
    for (std::int64_t first = 0; first < tokens || first == 0; first += chunk_rows) {
        const std::int64_t rows = tokens - first < chunk_rows ? tokens - first : chunk_rows;
        GemmArguments product;
        product.a = rows_of<T>(a.hidden, first, rows);
        product.b = transposed(a.weight);
        product.c = matrix(logits, kLogitDtype, rows, vocabulary, stride, 1);
        product.bias = a.bias;
        KernelStatus status = rows > 0 ? gemm(context, product) : kKernelOk;
        if (status != kKernelOk) return status;
        const RowPass<T> pass{a, options, logits, stride, first, with_gradient};
        parallel_for(rows, rows_per_chunk(vocabulary), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) pass.run(row);
        });
        if (with_gradient) {
            // T's rows lie where the logits' rows lay.
            const std::int64_t t_stride = row_bytes / static_cast<std::int64_t>(sizeof(T));
            const TensorView dlogits =
                matrix(logits, a.hidden.dtype, rows, vocabulary, t_stride, 1);
            status = chunk_gradients<T>(context, a, dlogits, first, a.accumulate != 0 || first > 0);
            if (status != kKernelOk) return status;
        }
        if (tokens == 0) break;
    }
    return kKernelOk;
}

KernelStatus linear_cross_entropy(const KernelContext& context,
                                  const LinearCrossEntropyArguments& arguments) {
    const bool rounded =
        arguments.hidden.dtype == DType::bf16 && arguments.weight.dtype == DType::f32;
    if (arguments.weight.dtype != arguments.hidden.dtype && !rounded) {
        return kKernelUnsupportedDtype;
    }
    if (!labels_in_range(arguments)) return kKernelIndexOutOfRange;
    return with_compute_dtype(arguments.hidden.dtype, [&](auto tag) {
        return run<typename decltype(tag)::type>(context, arguments);
    });
}

}  // namespace

void register_linear_cross_entropy(KernelTable& table) {
    table.linear_cross_entropy = linear_cross_entropy;
}

}  // namespace tempra::cpu::TEMPRA_ISA
