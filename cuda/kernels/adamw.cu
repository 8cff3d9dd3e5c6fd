// AdamW (Loshchilov & Hutter 2019), one pass over the arena, t = step_count:
//   g = gradient * gradient_scale * clip_coefficient        p *= 1 - lr * weight_decay
//   m = m * beta1 + g * (1 - beta1)                         v = v * beta2 + g^2 * (1 - beta2)
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
//
// Bytes moved per parameter: 16 read (p, g, m, v) and 12 written (p, m, v), plus 2 for a bf16 or
// fp16 copy, each once. Thread-to-data: 1024 blocks take the arena's chunks of 8192 elements in
// turn (arena_walk.h), a thread 16 bytes of each array at a time, single elements at the ends of
// segments. What varies per step is read from StepScalars in device memory, so the launch is the
// same every step and can be captured; the bias corrections are computed in double by one thread of
// a block, once per change of group. Deterministic: every element is computed alone.
#include "arena.cuh"
#include "devices.h"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

struct Coefficients {
    float gradient_scale, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size;
    float inverse_correction2;  // 1 / sqrt(1 - beta2^t)
    float epsilon;
};

__device__ Coefficients coefficients_of(const AdamWGroup& group, const StepScalars& scalars) {
    const double rate = static_cast<double>(scalars.learning_rate) * group.learning_rate_scale;
    const double beta1 = group.beta1, beta2 = group.beta2;
    const double correction1 = 1.0 - pow(beta1, scalars.step_count);
    const double correction2 = 1.0 - pow(beta2, scalars.step_count);
    return {scalars.gradient_scale * scalars.clip_coefficient,
            static_cast<float>(1.0 - rate * group.weight_decay),
            group.beta1,
            static_cast<float>(1.0 - beta1),
            group.beta2,
            static_cast<float>(1.0 - beta2),
            static_cast<float>(rate / correction1),
            static_cast<float>(1.0 / sqrt(correction2)),
            group.epsilon};
}

// Of one element: gradient in, parameter and moments changed.
__device__ __forceinline__ void update(const Coefficients& c, float gradient, float& p, float& m,
                                       float& v) {
    const float g = gradient * c.gradient_scale;
    m = m * c.beta1 + g * c.one_minus_beta1;
    v = v * c.beta2 + g * g * c.one_minus_beta2;
    p = p * c.decay - m * c.step_size / (sqrtf(v) * c.inverse_correction2 + c.epsilon);
}

template <int kCount>
__device__ __forceinline__ void update_at(const AdamWArguments& a, const Coefficients& c,
                                          std::int64_t i) {
    float p[kCount], g[kCount], m[kCount], v[kCount];
    load_whole<float, kCount>(a.parameters + i, p);
    load_whole<float, kCount>(a.gradients + i, g);
    load_whole<float, kCount>(a.first_moments + i, m);
    load_whole<float, kCount>(a.second_moments + i, v);
#pragma unroll
    for (int k = 0; k < kCount; ++k) update(c, g[k], p[k], m[k], v[k]);
    store_whole<float, kCount>(p, a.parameters + i);
    store_whole<float, kCount>(m, a.first_moments + i);
    store_whole<float, kCount>(v, a.second_moments + i);
    if (a.low_precision != nullptr) store_whole<bfloat16, kCount>(p, a.low_precision + i);
    if (a.half_precision != nullptr) store_whole<float16, kCount>(p, a.half_precision + i);
}

__global__ void __launch_bounds__(kArenaThreads)
    adamw_pieces(const __grid_constant__ AdamWArguments a, bool aligned, std::int32_t* fault) {
    __shared__ Coefficients shared;
    if (a.scalars->skip != 0) return;
    check_segments(a.segments, a.segment_count, fault);
    std::int32_t group = -1;
    for_each_arena_piece(a.segments, a.segment_count, blockIdx.x, gridDim.x,
                         [&](const ArenaSegment& segment, std::int64_t first, std::int64_t last) {
                             if (segment.group != group) {  // the same for the whole block
                                 group = segment.group;
                                 __syncthreads();
                                 if (threadIdx.x == 0)
                                     shared = coefficients_of(a.groups[group], *a.scalars);
                                 __syncthreads();
                             }
                             const Coefficients c = shared;
                             for_each_quad(first, last, aligned, [&](std::int64_t i, bool whole) {
                                 if (whole) {
                                     update_at<4>(a, c, i);
                                 } else {
                                     update_at<1>(a, c, i);
                                 }
                             });
                         });
}

bool on_16_bytes(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

KernelStatus adamw(const KernelContext& context, const AdamWArguments& arguments) {
    const KernelStatus status = check_launch("adamw", context, 1);
    if (status != kKernelOk || arguments.segment_count == 0) return status;
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    const bool aligned =
        on_16_bytes(arguments.parameters) && on_16_bytes(arguments.gradients) &&
        on_16_bytes(arguments.first_moments) && on_16_bytes(arguments.second_moments) &&
        on_16_bytes(arguments.low_precision) && on_16_bytes(arguments.half_precision);
    adamw_pieces<<<kArenaBlocks, kArenaThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
        arguments, aligned, device->fault);
    return finish_launch("adamw", context.stream);
}

}  // namespace

void register_adamw(KernelTable& table) { table.adamw = adamw; }

}  // namespace tempra::cuda
