// What a build without training refuses and what it still does; a build with training shows that
// the same calls work there.
#include <gtest/gtest.h>

#include <memory>

#include "tempra/tempra.h"

namespace tempra {
namespace {

template <class Call>
void expect_needs_training(const Call& call, const char* operation) {
    if (is_enabled()) {
        EXPECT_NO_THROW(call()) << operation;
        return;
    }
    try {
        call();
        ADD_FAILURE() << operation << " ran in a build without training";
    } catch (const TrainingDisabled& error) {
        EXPECT_NE(std::string(error.what()).find(operation), std::string::npos) << error.what();
    }
}

TEST(TrainingDisabled, IsEnabledSaysWhatTheBuildIs) {
    EXPECT_EQ(is_enabled(), TEMPRA_TRAINING != 0);
}

TEST(TrainingDisabled, RecordingNeedsTraining) {
    Tensor x = zeros({3});
    expect_needs_training([&] { x.set_requires_grad(true); }, "requires_grad");
    EXPECT_NO_THROW(x.set_requires_grad(false));
}

TEST(TrainingDisabled, GradientsNeedTraining) {
    Tensor x = zeros({3});
    if (is_enabled()) x.set_requires_grad(true);
    const GradOptions retain{.retain_graph = true};
    const Tensor total = sum(square(x));
    expect_needs_training([&] { (void)grad({total}, {x}, {}, retain); }, "grad");
    expect_needs_training([&] { backward(total); }, "backward");
}

TEST(TrainingDisabled, OptimizersNeedTraining) {
    const std::vector<std::pair<std::string, Tensor>> parameters{{"weight", zeros({2, 2})}};
    expect_needs_training(
        [&] {
            const auto arena = std::make_shared<ParameterArena>(parameters);
            AdamW(arena, {AdamWOptions{}}, {0}, {false}).step(0.1);
        },
        "adamw");
}

TEST(TrainingDisabled, ForwardOperationsWorkInEveryBuild) {
    const Tensor x = full({2, 4}, 3.0);
    const Tensor weight = full({4}, 2.0);
    const Tensor y = rms_norm(x, weight, 0.0);
    for (int i = 0; i < 8; ++i) EXPECT_NEAR(y.data_as<float>()[i], 2.0F, 1e-6F);
    const auto twice = [](const std::vector<Tensor>& inputs) {
        return std::vector<Tensor>{add(inputs[0], inputs[0])};
    };
    EXPECT_EQ(recompute(twice, {x})[0].data_as<float>()[0], 6.0F);
}

}  // namespace
}  // namespace tempra
