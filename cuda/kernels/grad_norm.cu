// sum_of_squares: sum of g^2 over all unfrozen segments of the gradient arena.
// prepare_step:   norm = sqrt(sum) * gradient_scale / loss_scale,
//                 clip = min(1, max_norm / (norm + 1e-6)) (Pascanu et al. 2013), divided by the
//                 loss scale; skip flag, counters, the next loss scale.
//
// Bytes moved: four read per element, 8 KiB of partial sums. Thread-to-data: 1024 blocks take the
// arena's chunks of 8192 elements in turn (arena_walk.h), a thread 16 bytes at a time, single
// elements at the ends of segments. Squares are added in double: no overflow, no loss; the loop
// still waits for memory where double runs at 1/64 of the fp32 rate. Each block leaves one partial
// sum and one block adds those: the number of blocks is fixed, so the result depends on neither the
// device nor the run.
#include "arena.cuh"
#include "block_reduce.cuh"
#include "devices.h"
#include "dispatch/loss_scale.h"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

__global__ void __launch_bounds__(kArenaThreads)
    square_sums(const float* data, const ArenaSegment* segments, std::int64_t segment_count,
                bool aligned, double* partials, std::int32_t* fault) {
    __shared__ double shared[32];
    check_segments(segments, segment_count, fault);
    double sum = 0;
    for_each_arena_piece(segments, segment_count, blockIdx.x, gridDim.x,
                         [&](const ArenaSegment&, std::int64_t first, std::int64_t last) {
                             for_each_quad(first, last, aligned, [&](std::int64_t i, bool whole) {
                                 float v[4] = {};
                                 if (whole) {
                                     load_whole<float, 4>(data + i, v);
                                 } else {
                                     v[0] = data[i];
                                 }
#pragma unroll
                                 for (int k = 0; k < 4; ++k) {
                                     sum += static_cast<double>(v[k]) * static_cast<double>(v[k]);
                                 }
                             });
                         });
    sum = block_reduce(sum, Add{}, shared);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kArenaBlocks) total_of(const double* partials, double* out) {
    __shared__ double shared[32];
    const double sum = block_reduce(partials[threadIdx.x], Add{}, shared);
    if (threadIdx.x == 0) *out = sum;
}

KernelStatus sum_of_squares(const KernelContext& context, const float* data,
                            const ArenaSegment* segments, std::int64_t segment_count, double* out) {
    const KernelStatus status = check_launch("sum_of_squares", context, 1);
    if (status != kKernelOk) return status;
    DeviceState* const device = current_device();
    const Scratch scratch(kArenaBlocks * 8, context.stream);
    if (device == nullptr || !scratch.ok()) return kKernelOutOfMemory;
    const auto stream = static_cast<cudaStream_t>(context.stream);
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
    square_sums<<<kArenaBlocks, kArenaThreads, 0, stream>>>(data, segments, segment_count, aligned,
                                                            scratch.as<double>(), device->fault);
    const KernelStatus launched = finish_launch("sum_of_squares: partials", context.stream);
    if (launched != kKernelOk) return launched;
    total_of<<<1, kArenaBlocks, 0, stream>>>(scratch.as<double>(), out);
    return finish_launch("sum_of_squares: total", context.stream);
}

__global__ void update_scalars(const double* sum, StepScalars* scalars) {
    const double unscale = inverse_loss_scale(*scalars);
    const auto norm =
        static_cast<float>(sqrt(*sum) * (static_cast<double>(scalars->gradient_scale) * unscale));
    scalars->gradient_norm = norm;
    choose_loss_scale(*scalars, !isfinite(norm));
    if (!isfinite(norm)) {
        scalars->clip_coefficient = 0.0F;
        scalars->skip = 1;
        ++scalars->skipped_in_a_row;
        ++scalars->skipped_total;
        return;
    }
    float clip = 1.0F;
    if (scalars->max_gradient_norm > 0.0F) {
        const float wanted = scalars->max_gradient_norm / (norm + 1e-6F);
        clip = wanted < 1.0F ? wanted : 1.0F;
    }
    scalars->clip_coefficient = clip * static_cast<float>(unscale);
    scalars->skip = 0;
    scalars->skipped_in_a_row = 0;
    scalars->step_count += 1;
}

KernelStatus prepare_step(const KernelContext& context, const double* sum_of_squares,
                          StepScalars* scalars) {
    const KernelStatus status = check_launch("prepare_step", context, 1);
    if (status != kKernelOk) return status;
    update_scalars<<<1, 1, 0, static_cast<cudaStream_t>(context.stream)>>>(sum_of_squares, scalars);
    return finish_launch("prepare_step", context.stream);
}

}  // namespace

void register_grad_norm(KernelTable& table) {
    table.sum_of_squares = sum_of_squares;
    table.prepare_step = prepare_step;
}

}  // namespace tempra::cuda
