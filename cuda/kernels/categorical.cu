// One draw a row from unnormalised log-probabilities: inverse distribution function, the first i
// with sum_{j <= i} exp(x_j - max) above u * total; u from the row's Philox counter, as on the CPU.
//
// Bytes moved: the row three times, from cache after the first. Thread-to-data: a block of 256
// threads per row, 256 elements at a time; sums in double. Deterministic: fixed trees of additions.
// The CPU adds in another order and has another exponential: a u that falls within rounding of a
// boundary may draw the neighbour there. A row that cannot be drawn from gives 0 and leaves a fault
// for `stream_synchronize`.
#include "block_reduce.cuh"
#include "block_scan.cuh"
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "philox_position.cuh"

namespace tempra::cuda {

namespace {

constexpr int kThreads = 256;
constexpr float kInfinity = __builtin_inff();

struct Later {
    __device__ __forceinline__ int operator()(int a, int b) const { return a > b ? a : b; }
};
struct Earlier {
    __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    draw_rows(const T* logits, std::int64_t row_stride, std::int64_t stride, int columns,
              const PhiloxKey key, std::int64_t* out, std::int64_t out_stride,
              std::int32_t* fault) {
    __shared__ float floats[32];
    __shared__ double doubles[32];
    __shared__ int places[32];
    const std::int64_t row = blockIdx.x;
    const T* const x = logits + row * row_stride;
    float peak = -kInfinity;
    int broken = 0;
    for (int i = static_cast<int>(threadIdx.x); i < columns; i += kThreads) {
        const float v = to_arithmetic(x[i * stride]);
        if (!(v < kInfinity)) broken = 1;
        peak = fmaxf(peak, v);
    }
    peak = block_reduce(peak, Larger{}, floats);
    broken = block_reduce(broken, Later{}, places);
    if (broken != 0 || peak == -kInfinity) {
        if (threadIdx.x == 0) {
            *fault = kNothingToDraw;
            out[row * out_stride] = 0;
        }
        return;
    }
    double total = 0;
    for (int i = static_cast<int>(threadIdx.x); i < columns; i += kThreads) {
        total += static_cast<double>(expf(to_arithmetic(x[i * stride]) - peak));
    }
    total = block_reduce(total, Add{}, doubles);
    const PhiloxBlock block = philox_at(key, row, 0);
    const double target = philox_uniform(block.words[0], block.words[1]) * total;
    double carried = 0;
    int last = -1;  // of positive weight: stands in where rounding leaves the target unreached
    for (int base = 0; base < columns; base += kThreads) {
        const int i = base + static_cast<int>(threadIdx.x);
        const float weight = i < columns ? expf(to_arithmetic(x[i * stride]) - peak) : 0.0F;
        double added;
        const double sum = carried + block_running_sum(static_cast<double>(weight), added, doubles);
        carried += added;
        const bool reached = weight > 0.0F && sum > target;
        const int first = block_reduce(reached ? i : columns, Earlier{}, places);
        last = max(last, block_reduce(weight > 0.0F ? i : -1, Later{}, places));
        if (first < columns) {
            last = first;
            break;
        }
    }
    if (threadIdx.x == 0) out[row * out_stride] = last;
}

KernelStatus categorical(const KernelContext& context, const TensorView& logits,
                         const PhiloxKey& key, const TensorView& out) {
    if (out.dtype != DType::i64) return kKernelUnsupportedDtype;
    const std::int64_t blocks = grid_for(logits.size(0), 1);
    const KernelStatus status = check_launch("categorical", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    if (logits.size(1) > INT32_MAX - kThreads)
        return fail(kKernelFailed, "categorical: rows too wide");
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    return with_compute_dtype(logits.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        draw_rows<T><<<static_cast<unsigned>(blocks), kThreads, 0,
                       static_cast<cudaStream_t>(context.stream)>>>(
            logits.as<const T>(), logits.stride(0), logits.stride(1),
            static_cast<int>(logits.size(1)), key, out.as<std::int64_t>(), out.stride(0),
            device->fault);
        return static_cast<KernelStatus>(finish_launch("categorical", context.stream));
    });
}

}  // namespace

void register_categorical(KernelTable& table) { table.categorical = categorical; }

}  // namespace tempra::cuda
