// out[i] = in[0] + ... + in[i] along one dimension; reversed: in[i] + ... + in[n - 1].
//
// Bytes moved: in and out once each. Thread-to-data: a block of 256 threads per line, 256 elements
// at a time, with the sum so far carried on. Floats are added up in double and rounded once at each
// store; integers wrap. Deterministic: one tree of additions per stretch of 256, whatever the
// device; it is not the CPU's order, which double hides.
#include "block_scan.cuh"
#include "devices.h"
#include "element_map.cuh"
#include "line_nest.h"

namespace tempra::cuda {

namespace {

constexpr int kThreads = 256;

template <class In, class Out, class Sum>
__global__ void __launch_bounds__(kThreads)
    sum_lines(const __grid_constant__ LineNest<2> nest, const In* in, Out* out, bool reverse) {
    __shared__ Sum shared[32];
    std::int64_t offset[2];
    nest.starts.offsets(blockIdx.x, offset);
    Sum carried = Sum{};
    for (std::int64_t base = 0; base < nest.length; base += kThreads) {
        const std::int64_t i = base + threadIdx.x, at = reverse ? nest.length - 1 - i : i;
        const bool exists = i < nest.length;
        const Sum value =
            exists ? static_cast<Sum>(to_arithmetic(in[offset[0] + at * nest.steps[0]])) : Sum{};
        Sum total;
        const Sum sum = carried + block_running_sum(value, total, shared);
        carried += total;
        if (exists) {
            out[offset[1] + at * nest.steps[1]] =
                from_arithmetic<Out>(static_cast<Arithmetic<Out>>(sum));
        }
    }
}

KernelStatus cumulative_sum(const KernelContext& context, const TensorView& in,
                            std::int32_t dimension, std::int32_t reverse, const TensorView& out) {
    const TensorView* const views[2] = {&in, &out};
    const LineNest<2> nest = line_nest(views, dimension);
    const std::int64_t blocks = grid_for(nest.lines(), 1);
    const KernelStatus status = check_launch("cumulative_sum", context, blocks);
    if (status != kKernelOk || blocks == 0 || nest.length == 0) return status;
    const auto launch = [&](auto in_tag, auto out_tag, auto sum_tag) -> KernelStatus {
        using In = decltype(in_tag);
        using Out = decltype(out_tag);
        sum_lines<In, Out, decltype(sum_tag)><<<static_cast<unsigned>(blocks), kThreads, 0,
                                                static_cast<cudaStream_t>(context.stream)>>>(
            nest, in.as<const In>(), out.as<Out>(), reverse != 0);
        return finish_launch("cumulative_sum", context.stream);
    };
    using Wrapping = unsigned long long;
    if (in.dtype == DType::i32 && out.dtype == DType::i64) {
        return launch(std::int32_t{}, std::int64_t{}, Wrapping{});
    }
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    switch (in.dtype) {
        case DType::f32: return launch(float{}, float{}, double{});
        case DType::bf16: return launch(bfloat16{}, bfloat16{}, double{});
        case DType::f16: return launch(float16{}, float16{}, double{});
        case DType::i64: return launch(std::int64_t{}, std::int64_t{}, Wrapping{});
        case DType::i32: return launch(std::int32_t{}, std::int32_t{}, Wrapping{});
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_cumulative_sum(KernelTable& table) { table.cumulative_sum = cumulative_sum; }

}  // namespace tempra::cuda
