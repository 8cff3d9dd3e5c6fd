#include "tempra/optim/adamw.h"

#include <cmath>
#include <cstddef>

#include "dispatch/launch.h"
#include "dispatch/loss_scale.h"
#include "optim/plain_values.h"
#include "tempra/ops/creation.h"
#include "tempra/training.h"
#include "tensor/tensor_access.h"

namespace tempra {

struct AdamW::State {
    std::shared_ptr<ParameterArena> arena;
    Tensor first_moments, second_moments;
    PlainValues<ArenaSegment> segments;
    PlainValues<AdamWGroup> groups;
    PlainValues<StepScalars> scalars;
    PlainValues<double> sum_of_squares;
    std::vector<bool> frozen;
};

namespace {

void check_options(size_t group, const AdamWOptions& options) {
    const auto check = [group](const char* field, double value, bool valid, const char* needed) {
        TEMPRA_CHECK(ConfigError, valid, "adamw: group {}: {} {} given; needs {}", group, field,
                     value, needed);
    };
    const auto fraction = [](double x) { return x >= 0 && x < 1; };
    check("learning_rate_scale", options.learning_rate_scale,
          std::isfinite(options.learning_rate_scale) && options.learning_rate_scale >= 0,
          "a finite number, 0 or more");
    check("weight_decay", options.weight_decay,
          std::isfinite(options.weight_decay) && options.weight_decay >= 0,
          "a finite number, 0 or more");
    check("beta1", options.beta1, fraction(options.beta1), "[0, 1)");
    check("beta2", options.beta2, fraction(options.beta2), "[0, 1)");
    check("epsilon", options.epsilon, std::isfinite(options.epsilon) && options.epsilon >= 0,
          "a finite number, 0 or more");
}

}  // namespace

AdamW::AdamW(std::shared_ptr<ParameterArena> arena, const std::vector<AdamWOptions>& groups,
             const std::vector<std::int64_t>& group_of, const std::vector<bool>& frozen)
    : state_(std::make_unique<State>()) {
    require_training("adamw");
    const std::vector<ParameterArena::Segment>& segments = arena->segments();
    TEMPRA_CHECK(ConfigError,
                 group_of.size() == segments.size() && frozen.size() == segments.size(),
                 "adamw: {} parameters, but group_of has {} entries and frozen {}", segments.size(),
                 group_of.size(), frozen.size());
    std::vector<AdamWGroup> known_groups;
    std::vector<ArenaSegment> known_segments;
    for (size_t i = 0; i < groups.size(); ++i) {
        check_options(i, groups[i]);
        known_groups.push_back(
            {static_cast<float>(groups[i].learning_rate_scale),
             static_cast<float>(groups[i].weight_decay), static_cast<float>(groups[i].beta1),
             static_cast<float>(groups[i].beta2), static_cast<float>(groups[i].epsilon)});
    }
    for (size_t i = 0; i < segments.size(); ++i) {
        TEMPRA_CHECK(ConfigError,
                     group_of[i] >= 0 && group_of[i] < static_cast<std::int64_t>(groups.size()),
                     "adamw: parameter {} is in group {}, but there are {} groups",
                     segments[i].name, group_of[i], groups.size());
        known_segments.push_back({segments[i].offset, segments[i].length,
                                  static_cast<std::int32_t>(group_of[i]), std::int32_t{frozen[i]}});
    }
    const Device device = arena->data().device();
    state_->groups = {std::move(known_groups), device};
    state_->segments = {std::move(known_segments), device};
    state_->scalars = {{StepScalars{}}, device};
    state_->sum_of_squares = {{0.0}, device};
    state_->first_moments = zeros_like(arena->data());
    state_->second_moments = zeros_like(arena->data());
    state_->frozen = frozen;
    state_->arena = std::move(arena);
}

AdamW::~AdamW() = default;

void AdamW::step(double learning_rate, double gradient_scale, double max_gradient_norm) {
    begin_step(learning_rate, gradient_scale, max_gradient_norm);
    run_step();
}

void AdamW::begin_step(double learning_rate, double gradient_scale, double max_gradient_norm) {
    TEMPRA_CHECK(ConfigError, std::isfinite(learning_rate) && learning_rate >= 0,
                 "adamw: learning_rate {} given; needs a finite number, 0 or more", learning_rate);
    TEMPRA_CHECK(ConfigError, std::isfinite(gradient_scale),
                 "adamw: gradient_scale {} given; needs a finite number", gradient_scale);
    TEMPRA_CHECK(ConfigError, std::isfinite(max_gradient_norm) && max_gradient_norm >= 0,
                 "adamw: max_gradient_norm {} given; needs 0 (no clipping) or more",
                 max_gradient_norm);
    State& state = *state_;
    state.arena->check_parameters();
    StepScalars& given = state.scalars.host()[0];
    given.learning_rate = static_cast<float>(learning_rate);
    given.gradient_scale = static_cast<float>(gradient_scale);
    given.max_gradient_norm = static_cast<float>(max_gradient_norm);
    state.scalars.write(&given.learning_rate, 3);
    state.arena->mark_written(state.frozen, state.arena->low_precision_copy().defined());
}

void AdamW::run_step() {
    State& state = *state_;
    const Tensor& data = state.arena->data();
    const std::int64_t count = state.segments.size();
    const auto* gradients = state.arena->gradients().data_as<const float>();
    const ArenaSegment* segments = state.segments.data();
    double* sum_of_squares = state.sum_of_squares.data();
    launch("adamw", data, &KernelTable::sum_of_squares, gradients, segments, count, sum_of_squares);
    const double* norm_input = sum_of_squares;
    StepScalars* scalars = state.scalars.data();
    launch("adamw", data, &KernelTable::prepare_step, norm_input, scalars);

    AdamWArguments arguments{};
    arguments.parameters = data.data_as<float>();
    arguments.gradients = gradients;
    arguments.first_moments = state.first_moments.data_as<float>();
    arguments.second_moments = state.second_moments.data_as<float>();
    const Tensor& copy = state.arena->low_precision_copy();
    const bool half = copy.defined() && copy.dtype() == DType::f16;
    arguments.low_precision = copy.defined() && !half ? copy.data_as<bfloat16>() : nullptr;
    arguments.half_precision = half ? copy.data_as<float16>() : nullptr;
    arguments.segments = segments;
    arguments.segment_count = count;
    arguments.groups = state.groups.data();
    arguments.scalars = scalars;
    launch("adamw", data, &KernelTable::adamw, arguments);
}

void AdamW::scale_losses() {
    TEMPRA_CHECK(DeviceError, state_->scalars.storage(),
                 "adamw: loss scaling is for fp16, which the CPU has no kernels for; use bf16");
    StepScalars& scalars = state_->scalars.host()[0];
    scalars.loss_scale = kInitialLossScale;
    scalars.clean_steps = 0;
    state_->scalars.write(&scalars.loss_scale, 2);
}

Tensor AdamW::loss_scale() const {
    if (!(state_->scalars.host()[0].loss_scale > 0)) return {};
    IntrusivePtr<TensorImpl> impl = make_counted<TensorImpl>();
    impl->storage = state_->scalars.storage();
    impl->version = make_counted<VersionCounter>();
    impl->offset = offsetof(StepScalars, loss_scale) / sizeof(float);
    impl->device = impl->storage->device();
    return TensorAccess::wrap(std::move(impl));
}

static_assert(offsetof(StepScalars, clean_steps) ==
              offsetof(StepScalars, loss_scale) + sizeof(float));
// The three that a step is given lie side by side, so that one small copy brings them.
static_assert(offsetof(StepScalars, max_gradient_norm) ==
              offsetof(StepScalars, learning_rate) + 2 * sizeof(float));

StepReport AdamW::report() const {
    const StepScalars& scalars = state_->scalars.read()[0];
    return {static_cast<std::int64_t>(scalars.step_count),
            scalars.gradient_norm,
            scalars.skip != 0,
            scalars.skipped_in_a_row,
            scalars.skipped_total,
            scalars.loss_scale,
            scalars.clean_steps};
}

void AdamW::restore(const StepReport& report) {
    StepScalars& scalars = state_->scalars.host()[0];
    scalars.step_count = static_cast<double>(report.step_count);
    scalars.gradient_norm = static_cast<float>(report.gradient_norm);
    scalars.skip = report.skipped ? 1 : 0;
    scalars.skipped_in_a_row = static_cast<std::int32_t>(report.skipped_in_a_row);
    scalars.skipped_total = static_cast<std::int32_t>(report.skipped_total);
    if (scalars.loss_scale > 0 && report.loss_scale > 0) {
        scalars.loss_scale = static_cast<float>(report.loss_scale);
        scalars.clean_steps = static_cast<std::int32_t>(report.clean_steps);
    }
    state_->scalars.write(&scalars, 1);
}

const Tensor& AdamW::first_moments() const { return state_->first_moments; }
const Tensor& AdamW::second_moments() const { return state_->second_moments; }

}  // namespace tempra
