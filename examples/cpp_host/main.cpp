// Fits y = x W^T + b to data made from a known W and b: tensors, autograd and AdamW without Python.
// Exits 1 when the fit is poor.
#include <cstdio>
#include <memory>

#include "tempra/tempra.h"

int main() {
    using namespace tempra;
    try {
        manual_seed(7);
        const Tensor x = normal({256, 8});
        const Tensor true_weight = normal({4, 8});
        const Tensor true_bias = normal({4});
        const Tensor y = linear(x, true_weight, true_bias);

        Tensor weight = zeros({4, 8});
        Tensor bias = zeros({4});
        weight.set_requires_grad(true);
        bias.set_requires_grad(true);
        const std::vector<std::pair<std::string, Tensor>> parameters{{"weight", weight},
                                                                     {"bias", bias}};
        const auto arena = std::make_shared<ParameterArena>(parameters);
        AdamW optimizer(arena, {AdamWOptions{}}, {0, 0}, {false, false});

        double loss = 0;
        for (int step = 1; step <= 500; ++step) {
            arena->zero_gradients();
            const Tensor error = mean(square(subtract(linear(x, weight, bias), y)));
            backward(error);
            optimizer.step(0.05);
            loss = error.item();
            if (step % 100 == 0) std::printf("step %3d  loss %.2e\n", step, loss);
        }
        return loss < 1e-4 ? 0 : 1;
    } catch (const Error& error) {
        std::fprintf(stderr, "cpp_host: %s\n", error.what());
        return 1;
    }
}
