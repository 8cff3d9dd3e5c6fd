// out = index of the first largest or smallest element along one dimension; NaN counts as extreme.
//
// Bytes moved: in once (twice, the second time from cache, for lines that are contiguous), out
// once. Mapping: lines over threads; contiguous lines go by vectors, others in strips of adjacent
// lines. Deterministic: the first of equal elements, whatever the number of threads.
#include "kernels/line_nest.h"
#include "kernels/reduce_kernels.h"
#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kStrip = 256;

template <class T>
inline auto number(T x) {
    if constexpr (kIsFloating<T>) {
        return to_arithmetic(x);
    } else {
        return x;
    }
}

template <class T>
inline bool is_first_extreme(T x, T best) {
    return x == best || x != x;
}

// First finds the extreme block by block, then its place within the block where it last changed.
template <class Operation, class T>
std::int64_t extreme_of_line(const T* data, std::int64_t n) {
    if constexpr (kIsFloating<T>) {
        using A = Arithmetic<T>;
        std::int64_t block = 0;
        A best = to_arithmetic(data[0]);
        for (std::int64_t i = 0; i < n && best == best; i += kRunBlock) {
            const A candidate =
                reduce_block<Operation>(data + i, n - i < kRunBlock ? n - i : kRunBlock);
            const A merged = Operation::combine(best, candidate);
            if (merged != best) block = i;
            best = merged;
        }
        for (std::int64_t i = block; i < n; ++i) {
            if (is_first_extreme(to_arithmetic(data[i]), best)) return i;
        }
        return block;
    } else {
        std::int64_t best = 0;
        for (std::int64_t i = 1; i < n; ++i) {
            if (data[i] != data[best] && Operation::combine(data[best], data[i]) == data[i])
                best = i;
        }
        return best;
    }
}

template <class Operation, class T>
void extremes_of_strip(const T* data, std::int64_t n, std::int64_t stride, std::int64_t lines,
                       std::int64_t line_stride, std::int64_t* indices) {
    using A = decltype(number(T{}));
    A best[kStrip];
    for (std::int64_t c = 0; c < lines; ++c) {
        best[c] = number(data[c * line_stride]);
        indices[c] = 0;
    }
    for (std::int64_t r = 1; r < n; ++r) {
        const T* row = data + r * stride;
        for (std::int64_t c = 0; c < lines; ++c) {
            const A x = number(row[c * line_stride]);
            const bool better = (Operation::combine(best[c], x) != best[c]) & (best[c] == best[c]);
            best[c] = better ? x : best[c];
            indices[c] = better ? r : indices[c];
        }
    }
}

template <class Operation, class T>
void find_extremes(const TensorView& in, int dimension, const TensorView& out) {
    const TensorView* const views[] = {&in, &out};
    const LineNest nest = make_line_nest(views, 2, dimension);
    const std::int64_t length = dimension < 0 ? 1 : in.sizes[dimension];
    const std::int64_t stride = dimension < 0 ? 1 : in.strides[dimension];
    const T* data = in.as<T>();
    std::int64_t* indices = out.as<std::int64_t>();
    if (stride == 1) {
        for_each_line(nest, length, [&](const std::int64_t* offset) {
            indices[offset[1]] = extreme_of_line<Operation>(data + offset[0], length);
        });
        return;
    }
    for_each_strip(nest, length, kStrip, [&](const std::int64_t* offset, std::int64_t lines) {
        std::int64_t found[kStrip];
        extremes_of_strip<Operation>(data + offset[0], length, stride, lines, nest.inner_stride(0),
                                     found);
        for (std::int64_t c = 0; c < lines; ++c)
            indices[offset[1] + c * nest.inner_stride(1)] = found[c];
    });
}

template <class T>
KernelStatus arg_reduce_typed(bool maximum, const TensorView& in, int dimension,
                              const TensorView& out) {
    if (maximum) {
        find_extremes<MaximumOperation, T>(in, dimension, out);
    } else {
        find_extremes<MinimumOperation, T>(in, dimension, out);
    }
    return kKernelOk;
}

KernelStatus arg_reduce(const KernelContext&, std::int32_t maximum, const TensorView& in,
                        std::int32_t dimension, const TensorView& out) {
    if (out.dtype != DType::i64) return kKernelUnsupportedDtype;
    if (in.dimensions == 0) dimension = -1;
    for (int d = 0; d < out.dimensions; ++d) {
        if (out.sizes[d] == 0) return kKernelOk;
    }
    if (dimension >= 0 && in.sizes[dimension] == 0) return kKernelFailed;  // nothing to choose from
    switch (in.dtype) {
        case DType::f32: return arg_reduce_typed<float>(maximum != 0, in, dimension, out);
        case DType::bf16: return arg_reduce_typed<bfloat16>(maximum != 0, in, dimension, out);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return arg_reduce_typed<double>(maximum != 0, in, dimension, out);
        case DType::i64: return arg_reduce_typed<std::int64_t>(maximum != 0, in, dimension, out);
        case DType::i32: return arg_reduce_typed<std::int32_t>(maximum != 0, in, dimension, out);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_arg_reduce(KernelTable& table) { table.arg_reduce = arg_reduce; }

}  // namespace tempra::cpu::TEMPRA_ISA
