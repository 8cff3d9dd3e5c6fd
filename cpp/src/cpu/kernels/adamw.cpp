// AdamW (Loshchilov & Hutter 2019), one pass over the arena, t = step_count:
//   g = gradient * gradient_scale * clip_coefficient        p *= 1 - lr * weight_decay
//   m = m * beta1 + g * (1 - beta1)                         v = v * beta2 + g^2 * (1 - beta2)
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
//
// Bytes per parameter: 16 read (p, g, m, v) and 12 written (p, m, v), plus 2 for the bf16 copy,
// each once; memory is the limit. Bias corrections are computed in double once per group and piece.
// Chunks of 64 Ki elements (arena_chunks.h) go to threads; each element is computed alone, so
// results do not depend on their number. Denormals count as zero here: moments of parameters
// without gradients decay through that range, and the arithmetic would slow down there.
#include "kernels/arena_chunks.h"
#include "kernels/convert.h"
#include "kernels/register.h"
#include "simd/flush_denormals.h"
#include "simd/row_loop.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kChunk = 65536;

struct Coefficients {
    float gradient_scale, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size;
    float inverse_correction2;  // 1 / sqrt(1 - beta2^t)
    float epsilon;
};

Coefficients coefficients_of(const AdamWGroup& group, const StepScalars& scalars) {
    const double rate =
        static_cast<double>(scalars.learning_rate) * static_cast<double>(group.learning_rate_scale);
    const double beta1 = static_cast<double>(group.beta1), beta2 = static_cast<double>(group.beta2);
    const double correction1 = 1.0 - __builtin_pow(beta1, scalars.step_count);
    const double correction2 = 1.0 - __builtin_pow(beta2, scalars.step_count);
    return {scalars.gradient_scale * scalars.clip_coefficient,
            static_cast<float>(1.0 - rate * static_cast<double>(group.weight_decay)),
            group.beta1,
            static_cast<float>(1.0 - beta1),
            group.beta2,
            static_cast<float>(1.0 - beta2),
            static_cast<float>(rate / correction1),
            static_cast<float>(1.0 / __builtin_sqrt(correction2)),
            group.epsilon};
}

// Kept out of line so that no arithmetic moves across the change of the denormal mode.
__attribute__((noinline)) void update(const AdamWArguments& a, std::int64_t begin, std::int64_t end,
                                      const Coefficients& c) {
    for_each_vector<float>(end - begin, [&](std::int64_t offset, auto lanes) {
        const std::int64_t i = begin + offset;
        const VecFloat g = load<float>(a.gradients + i, lanes) * c.gradient_scale;
        const VecFloat m =
            load<float>(a.first_moments + i, lanes) * c.beta1 + g * c.one_minus_beta1;
        const VecFloat v =
            load<float>(a.second_moments + i, lanes) * c.beta2 + g * g * c.one_minus_beta2;
        const VecFloat denominator = square_root<float>(v) * c.inverse_correction2 + c.epsilon;
        const VecFloat p =
            load<float>(a.parameters + i, lanes) * c.decay - m * c.step_size / denominator;
        store<float>(a.parameters + i, p, lanes);
        store<float>(a.first_moments + i, m, lanes);
        store<float>(a.second_moments + i, v, lanes);
        if (a.low_precision != nullptr) store<float>(a.low_precision + i, p, lanes);
    });
    if (a.half_precision == nullptr) return;  // of devices that compute in it
    for (std::int64_t i = begin; i < end; ++i) {
        a.half_precision[i] = convert<float16>(a.parameters[i]);
    }
}

KernelStatus adamw(const KernelContext&, const AdamWArguments& arguments) {
    if (arguments.scalars->skip != 0) return kKernelOk;
    const ArenaSegment* segments = arguments.segments;
    const std::int64_t segment_count = arguments.segment_count;
    if (!segments_ascend(segments, segment_count)) return kKernelFailed;
    const ArenaRange range = arena_range(segments, segment_count);
    parallel_for(range.end - range.begin, kChunk, [&](std::int64_t begin, std::int64_t end) {
        const FlushDenormals flush;
        std::int32_t group = -1;
        Coefficients coefficients{};
        for_each_segment_piece(
            segments, segment_count, range.begin + begin, range.begin + end,
            [&](const ArenaSegment& segment, std::int64_t first, std::int64_t last) {
                if (segment.group != group) {
                    group = segment.group;
                    coefficients = coefficients_of(arguments.groups[group], *arguments.scalars);
                }
                update(arguments, first, last, coefficients);
            });
    });
    return kKernelOk;
}

}  // namespace

void register_adamw(KernelTable& table) { table.adamw = adamw; }

}  // namespace tempra::cpu::TEMPRA_ISA
