// sum_of_squares: sum of g^2 over all unfrozen segments of the gradient arena.
// prepare_step:   norm = sqrt(sum) * gradient_scale / loss_scale,
//                 clip = min(1, max_norm / (norm + 1e-6)) (Pascanu et al. 2013), divided by the
//                 loss scale; skip flag, counters, the next loss scale.
//
// Bytes: four read per element, nothing written. Squares are added in double: no overflow, no loss,
// and the loop still waits for memory. Each chunk of 64 Ki elements (arena_chunks.h) leaves one
// partial sum; they are added in order, so the result does not depend on the number of threads.
#include "dispatch/loss_scale.h"
#include "kernels/arena_chunks.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "simd/row_loop.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kChunk = 65536;

double squares(const float* data, std::int64_t count) {
    constexpr std::int64_t kStep = kLanes<double>;
    FourVectors<double> sum(0);
    std::int64_t i = 0;
    for (; i + 4 * kStep <= count; i += 4 * kStep) {
        for (int k = 0; k < 4; ++k) {
            const VecDouble v = load<double>(data + i + k * kStep);
            sum.v[k] += v * v;
        }
    }
    double rest = 0;
    for (; i < count; ++i) rest += static_cast<double>(data[i]) * static_cast<double>(data[i]);
    return sum.sum() + rest;
}

KernelStatus sum_of_squares(const KernelContext&, const float* data, const ArenaSegment* segments,
                            std::int64_t segment_count, double* out) {
    if (!segments_ascend(segments, segment_count)) return kKernelFailed;
    const ArenaRange range = arena_range(segments, segment_count);
    const std::int64_t count = range.end - range.begin;
    const std::int64_t chunks = (count + kChunk - 1) / kChunk;
    const Scratch scratch(chunks * static_cast<std::int64_t>(sizeof(double)));
    if (!scratch.ok()) return kKernelOutOfMemory;
    double* const partials = scratch.as<double>();
    parallel_for(count, kChunk, [&](std::int64_t begin, std::int64_t end) {
        double sum = 0;
        for_each_segment_piece(segments, segment_count, range.begin + begin, range.begin + end,
                               [&](const ArenaSegment&, std::int64_t first, std::int64_t last) {
                                   sum += squares(data + first, last - first);
                               });
        partials[begin / kChunk] = sum;
    });
    double total = 0;
    for (std::int64_t i = 0; i < chunks; ++i) total += partials[i];
    *out = total;
    return kKernelOk;
}

KernelStatus prepare_step(const KernelContext&, const double* sum, StepScalars* scalars) {
    const double unscale = inverse_loss_scale(*scalars);
    const float norm = static_cast<float>(__builtin_sqrt(*sum) *
                                          (static_cast<double>(scalars->gradient_scale) * unscale));
    scalars->gradient_norm = norm;
    choose_loss_scale(*scalars, !__builtin_isfinite(norm));
    if (!__builtin_isfinite(norm)) {
        scalars->clip_coefficient = 0.0F;
        scalars->skip = 1;
        ++scalars->skipped_in_a_row;
        ++scalars->skipped_total;
        return kKernelOk;
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
    return kKernelOk;
}

}  // namespace

void register_grad_norm(KernelTable& table) {
    table.sum_of_squares = sum_of_squares;
    table.prepare_step = prepare_step;
}

}  // namespace tempra::cpu::TEMPRA_ISA
