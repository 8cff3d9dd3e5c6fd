#include "tempra/optim/gradient_clipping.h"

#include <cmath>

#include "dispatch/launch.h"
#include "optim/plain_values.h"
#include "tempra/autograd.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

std::vector<Tensor> gradients_of(const std::vector<Tensor>& parameters) {
    std::vector<Tensor> gradients;
    for (const Tensor& parameter : parameters) {
        if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
    return gradients;
}

double sum_of_squares(const Tensor& gradient) {
    if (gradient.dtype() == DType::f64) return sum(square(gradient)).item();
    const Tensor values = contiguous(cast(gradient, DType::f32));
    PlainValues<ArenaSegment> all({{0, values.numel(), 0, 0}}, values.device());
    PlainValues<double> total({0.0}, values.device());
    launch("gradient_norm", values, &KernelTable::sum_of_squares, values.data_as<const float>(),
           all.data(), std::int64_t{1}, total.data());
    return total.read()[0];
}

}  // namespace

double gradient_norm(const std::vector<Tensor>& parameters) {
    const GradModeGuard off(false);
    double total = 0;
    for (const Tensor& gradient : gradients_of(parameters)) total += sum_of_squares(gradient);
    return std::sqrt(total);
}

double clip_gradient_norm_(const std::vector<Tensor>& parameters, double max_norm) {
    TEMPRA_CHECK(ConfigError, max_norm > 0, "clip_grad_norm_: max_norm {} given; needs above 0",
                 max_norm);
    const GradModeGuard off(false);
    const double norm = gradient_norm(parameters);
    const double scale = max_norm / (norm + 1e-6);
    if (!std::isfinite(norm) || scale >= 1) return norm;
    for (Tensor& gradient : gradients_of(parameters)) {
        copy_(gradient, multiply(gradient, scalar_like(gradient, scale)));
    }
    return norm;
}

void clip_gradient_value_(const std::vector<Tensor>& parameters, double limit) {
    TEMPRA_CHECK(ConfigError, limit > 0, "clip_grad_value_: limit {} given; needs above 0", limit);
    const GradModeGuard off(false);
    for (Tensor& gradient : gradients_of(parameters)) {
        launch("clip_grad_value_", gradient, &KernelTable::clamp, gradient.view(), -limit, limit,
               gradient.view());
        gradient.bump_version();
    }
}

}  // namespace tempra
