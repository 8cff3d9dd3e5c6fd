#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

// Small ones off 16 bytes, one across many chunks, gaps, a frozen one and an empty one.
constexpr ArenaSegment kSegments[] = {{3, 1, 0, 0},       {4, 17, 1, 0},
                                      {32, 200001, 0, 0}, {200040, 100, 1, 1},
                                      {200140, 0, 0, 0},  {200160, 70003, 1, 0}};
constexpr std::int64_t kCount = 6, kArena = 270200;
constexpr AdamWGroup kGroups[] = {{1.0F, 0.1F, 0.9F, 0.95F, 1e-8F},
                                  {0.5F, 0.0F, 0.8F, 0.99F, 1e-6F}};

StepScalars scalars_of(double step, std::int32_t skip) {
    StepScalars scalars{};
    scalars.step_count = step;
    scalars.learning_rate = 3e-3F;
    scalars.gradient_scale = 0.25F;
    scalars.max_gradient_norm = 1.0F;
    scalars.clip_coefficient = 0.7F;
    scalars.skip = skip;
    scalars.skipped_in_a_row = 2;
    scalars.skipped_total = 5;
    return scalars;
}

Operand arena(Values values) { return tensor(DType::f32, {kArena}, values); }

void check_adamw(Suite& suite, double step, std::int32_t skip, bool low_precision,
                 bool half_precision = false) {
    const StepScalars scalars = scalars_of(step, skip);
    suite.check(
        "adamw step " + std::to_string(static_cast<int>(step)) + (skip != 0 ? " skipped" : "") +
            (low_precision ? " with bf16 copy" : "") + (half_precision ? " with fp16 copy" : ""),
        {arena(Values::normal), arena(Values::normal), arena(Values::unit), arena(Values::positive),
         tensor(DType::bf16, {kArena}, Values::zero), raw(kSegments, sizeof(kSegments)),
         raw(kGroups, sizeof(kGroups)), raw(&scalars, sizeof(scalars)),
         tensor(DType::u16, {kArena}, Values::zero), arena(Values::zero)},
        // Copies may round the other way: 2^-8 (bf16) or 2^-11 (fp16) of up to 4.
        low_precision    ? Tolerance{8e-3, 1e-5}
        : half_precision ? Tolerance{1e-3, 1e-6}
                         : Tolerance{4e-6, 1e-6},
        [=](const KernelTable& k, const KernelContext& c, const Views& v) {
            AdamWArguments arguments{v[0].as<float>(),
                                     v[1].as<const float>(),
                                     v[2].as<float>(),
                                     v[3].as<float>(),
                                     low_precision ? v[4].as<bfloat16>() : nullptr,
                                     v[5].as<const ArenaSegment>(),
                                     kCount,
                                     v[6].as<const AdamWGroup>(),
                                     v[7].as<const StepScalars>()};
            if (!half_precision) return k.adamw(c, arguments);
            // The copy is compared as fp32 numbers, and its bits not at all.
            TensorView half = v[8];
            half.dtype = DType::f16;
            arguments.half_precision = half.as<float16>();
            KernelStatus status = k.adamw(c, arguments);
            if (status == kKernelOk) status = k.copy(c, half, v[9]);
            return status == kKernelOk ? k.fill(c, half, 0.0) : status;
        });
}

void check_prepare_step(Suite& suite, const std::string& name, double sum, float loss_scale = 0,
                        std::int32_t clean_steps = 0) {
    StepScalars scalars = scalars_of(4, 0);
    scalars.loss_scale = loss_scale;
    scalars.clean_steps = clean_steps;
    suite.check("prepare_step " + name,
                {raw(&sum, sizeof(sum)), raw_floats(&scalars, sizeof(scalars))}, kExact,
                [](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.prepare_step(c, v[0].as<const double>(), v[1].as<StepScalars>());
                });
}

}  // namespace

void check_arena(Suite& suite) {
    suite.check(
        "sum_of_squares",
        {arena(Values::normal), raw(kSegments, sizeof(kSegments)),
         tensor(DType::f64, {1}, Values::zero)},
        Tolerance{1e-12, 0}, [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.sum_of_squares(c, v[0].as<const float>(), v[1].as<const ArenaSegment>(),
                                    kCount, v[2].as<double>());
        });
    check_prepare_step(suite, "below the limit", 4.0);
    check_prepare_step(suite, "clipped", 400.0);
    check_prepare_step(suite, "infinite", __builtin_inf());
    check_prepare_step(suite, "not a number", __builtin_nan(""));
    check_prepare_step(suite, "scaled loss", 4e10, 65536);
    check_prepare_step(suite, "scaled loss, the last clean step", 4e10, 65536, 1999);
    check_prepare_step(suite, "scaled loss, overflow", __builtin_inf(), 65536, 1500);
    check_prepare_step(suite, "scaled loss, overflow at the floor", __builtin_nan(""), 1, 3);
    check_prepare_step(suite, "scaled loss, no further", 4e10, 0x1p127F, 1999);
    check_adamw(suite, 1, 0, false);
    check_adamw(suite, 1000, 0, false);
    check_adamw(suite, 7, 0, true);
    check_adamw(suite, 7, 1, true);
    check_adamw(suite, 7, 0, false, true);
    if (suite.backend().context().stream == nullptr) return;  // the CPU refuses at the call
    static constexpr ArenaSegment kOverlapping[] = {{0, 100, 0, 0}, {50, 100, 0, 0}};
    suite.check_fault(
        "sum_of_squares: overlapping segments",
        {tensor(DType::f32, {200}), raw(kOverlapping, sizeof(kOverlapping)),
         tensor(DType::f64, {1}, Values::zero)},
        "segments overlap", [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.sum_of_squares(c, v[0].as<const float>(), v[1].as<const ArenaSegment>(), 2,
                                    v[2].as<double>());
        });
}

}  // namespace tempra::cuda::parity
