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
    double loss_scale = 0;         // of the next step; 0: losses are not scaled
    std::int64_t clean_steps = 0;  // in a row since it changed
};

class AdamW {
  public:
    // `group_of` names each parameter's group in `groups`; `frozen` parameters are neither updated
    // nor counted in the norm. Raises ConfigError for options outside their range.
    AdamW(std::shared_ptr<ParameterArena> arena, const std::vector<AdamWOptions>& groups,
          const std::vector<std::int64_t>& group_of, const std::vector<bool>& frozen);
    ~AdamW();

    // One update: gradients are multiplied by `gradient_scale`; their global norm is clipped to
    // `max_gradient_norm` (0: not at all); nothing is written when the norm is not finite. The low
    // precision copy is refreshed. Gradients are left as they are. Error when a parameter has moved
    // to a later arena.
    void step(double learning_rate, double gradient_scale = 1, double max_gradient_norm = 0);
    // The two halves of a step, so that a captured graph can have the second: the host's, which
    // leaves the numbers where kernels read them and counts as a write to the parameters; and the
    // device's, which takes whatever numbers lie there when it runs.
    void begin_step(double learning_rate, double gradient_scale = 1, double max_gradient_norm = 0);
    void run_step();

    // From now on gradients are those of the loss times `loss_scale()`, which starts at 65,536. A
    // step divides by it, halves it (not below 1) where gradients are not finite, and doubles it
    // after 2,000 steps without: on the device, which is not waited for. Error on the CPU, which
    // has no kernels that need it.
    void scale_losses();
    // What losses are to be multiplied by: a f32 number [] on the device, which each step changes.
    // Undefined where losses are not scaled.
    [[nodiscard]] Tensor loss_scale() const;

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
