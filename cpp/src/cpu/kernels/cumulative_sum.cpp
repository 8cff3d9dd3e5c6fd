// out[i] = in[0] + ... + in[i] along one dimension; reversed: in[i] + ... + in[n - 1].
//
// Bytes moved: in and out once each. Mapping: lines over threads, strips of adjacent lines where
// lines are strided. Floats are added up in double and rounded once at each store; integers wrap.
// Deterministic: one order of additions per line.
#include "kernels/convert.h"
#include "kernels/line_nest.h"
#include "kernels/register.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kStrip = 256;

// Integers are added as unsigned, where wrapping is defined.
template <class T>
struct RunningSum {
    using type = double;
};
template <>
struct RunningSum<std::int64_t> {
    using type = std::uint64_t;
};
template <>
struct RunningSum<std::int32_t> {
    using type = std::uint64_t;
};

template <class T, class Sum>
inline Sum to_sum(T x) {
    return static_cast<Sum>(to_number(x));
}
template <class T, class Sum>
inline T from_sum(Sum sum) {
    if constexpr (__is_same(Sum, double)) {
        return convert<T>(sum);
    } else {
        return static_cast<T>(sum);
    }
}

template <class In, class Out>
void sum_strips(const TensorView& in, int dimension, bool reverse, const TensorView& out) {
    using Sum = typename RunningSum<In>::type;
    const TensorView* const views[] = {&in, &out};
    const LineNest nest = make_line_nest(views, 2, dimension);
    const std::int64_t length = dimension < 0 ? 1 : in.sizes[dimension];
    std::int64_t in_step = dimension < 0 ? 0 : in.strides[dimension];
    std::int64_t out_step = dimension < 0 ? 0 : out.strides[dimension];
    const std::int64_t in_first = reverse ? (length - 1) * in_step : 0;
    const std::int64_t out_first = reverse ? (length - 1) * out_step : 0;
    if (reverse) {
        in_step = -in_step;
        out_step = -out_step;
    }
    const std::int64_t strip = in_step == 1 || in_step == -1 ? 1 : kStrip;
    for_each_strip(nest, length, strip, [&](const std::int64_t* offset, std::int64_t lines) {
        const In* from = in.as<In>() + offset[0] + in_first;
        Out* to = out.as<Out>() + offset[1] + out_first;
        if (lines == 1) {
            Sum sum = 0;
            for (std::int64_t r = 0; r < length; ++r) {
                sum += to_sum<In, Sum>(from[r * in_step]);
                to[r * out_step] = from_sum<Out>(sum);
            }
            return;
        }
        Sum sums[kStrip];
        for (std::int64_t c = 0; c < lines; ++c) sums[c] = 0;
        const std::int64_t in_line = nest.inner_stride(0), out_line = nest.inner_stride(1);
        for (std::int64_t r = 0; r < length; ++r) {
            for (std::int64_t c = 0; c < lines; ++c) {
                sums[c] += to_sum<In, Sum>(from[r * in_step + c * in_line]);
                to[r * out_step + c * out_line] = from_sum<Out>(sums[c]);
            }
        }
    });
}

KernelStatus cumulative_sum(const KernelContext&, const TensorView& in, std::int32_t dimension,
                            std::int32_t reverse, const TensorView& out) {
    if (in.dimensions == 0) dimension = -1;
    if (dimension >= 0 && in.sizes[dimension] == 0) return kKernelOk;
    const bool backwards = reverse != 0;
#if defined(TEMPRA_ISA_IS_baseline)
    if (in.dtype == DType::i32 && out.dtype == DType::i64) {
        sum_strips<std::int32_t, std::int64_t>(in, dimension, backwards, out);
        return kKernelOk;
    }
#endif
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    switch (in.dtype) {
        case DType::f32: sum_strips<float, float>(in, dimension, backwards, out); break;
        case DType::bf16: sum_strips<bfloat16, bfloat16>(in, dimension, backwards, out); break;
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: sum_strips<double, double>(in, dimension, backwards, out); break;
        case DType::i64:
            sum_strips<std::int64_t, std::int64_t>(in, dimension, backwards, out);
            break;
        case DType::i32:
            sum_strips<std::int32_t, std::int32_t>(in, dimension, backwards, out);
            break;
#endif
        default: return kKernelUnsupportedDtype;
    }
    return kKernelOk;
}

}  // namespace

void register_cumulative_sum(KernelTable& table) { table.cumulative_sum = cumulative_sum; }

}  // namespace tempra::cpu::TEMPRA_ISA
