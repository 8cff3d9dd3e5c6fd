// AdamW over an arena (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization").
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tempra/arena.h"

namespace tempra {

struct AdamWOptions {
    double learning_rate_scale = 1;  // multiplies the step's learning rate
    double weight_decay = 0;         // decoupled: p -= lr * weight_decay * p
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
};

// What the device knows after a step; reading it waits for the device.
struct StepReport {
    std::int64_t step_count = 0;  // updates applied; a skipped one is not counted
    double gradient_norm = 0;     // of the last step, after scaling and before clipping
    bool skipped = false;         // the last step's norm was not finite, so nothing was written
    std::int64_t skipped_in_a_row = 0;
    std::int64_t skipped_total = 0;
};

class AdamW {
  public:
    // `group_of` names each parameter's group in `groups`; `frozen` parameters are neither updated
    // nor counted in the norm. Raises ConfigError for options outside their range.
    AdamW(std::shared_ptr<ParameterArena> arena, const std::vector<AdamWOptions>& groups,
          const std::vector<std::int64_t>& group_of, const std::vector<bool>& frozen);
    ~AdamW();

    // One update: gradients are multiplied by `gradient_scale`; their global norm is clipped to
    // `max_gradient_norm` (0: not at all); nothing is written when the norm is not finite. The bf16
    // copy is refreshed. Gradients are left as they are.
    void step(double learning_rate, double gradient_scale = 1, double max_gradient_norm = 0);

    [[nodiscard]] StepReport report() const;
    // Restores the counters of a checkpoint.
    void restore(const StepReport& report);
    [[nodiscard]] const Tensor& first_moments() const;  // f32, like the arena's data
    [[nodiscard]] const Tensor& second_moments() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace tempra
