// Dynamic loss scaling (P. Micikevicius et al.: Mixed Precision Training, 2018), the same on every
// device: the loss is multiplied by StepScalars::loss_scale before the gradients of fp16 are taken,
// which would vanish otherwise, and prepare_step divides by it again and chooses the next one.
//
// Functions are static and always inlined: files compiled for different instruction sets, and
// device code, include this header.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra {

inline constexpr float kInitialLossScale = 65536.0F;
inline constexpr float kSmallestLossScale = 1.0F;
inline constexpr std::int32_t kCleanStepsToDouble = 2000;

// What gradients are multiplied by to be those of the loss itself: exact, as scales are powers of
// two.
[[maybe_unused]] [[gnu::always_inline]] static inline constexpr double inverse_loss_scale(
    const StepScalars& scalars) {
    return scalars.loss_scale > 0.0F ? 1.0 / static_cast<double>(scalars.loss_scale) : 1.0;
}

// Halved where gradients were not finite, doubled after kCleanStepsToDouble steps in a row without.
[[maybe_unused]] [[gnu::always_inline]] static inline constexpr void choose_loss_scale(
    StepScalars& scalars, bool overflowed) {
    if (!(scalars.loss_scale > 0.0F)) return;
    if (overflowed) {
        const float half = scalars.loss_scale * 0.5F;
        scalars.loss_scale = half > kSmallestLossScale ? half : kSmallestLossScale;
        scalars.clean_steps = 0;
    } else if (++scalars.clean_steps >= kCleanStepsToDouble) {
        const float twice = scalars.loss_scale * 2.0F;
        if (twice - twice == 0.0F) scalars.loss_scale = twice;  // finite
        scalars.clean_steps = 0;
    }
}

}  // namespace tempra
