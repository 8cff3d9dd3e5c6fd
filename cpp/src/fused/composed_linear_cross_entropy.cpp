#include "fused/composed_linear_cross_entropy.h"

#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/matmul.h"
#include "tempra/ops/reduce.h"

namespace tempra {

Tensor composed_linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                     const Tensor& labels, const Tensor& valid,
                                     const CrossEntropyOptions& options) {
    const DType dtype = statistics_dtype(hidden.dtype());
    Tensor logits = cast(matmul(hidden, transpose(cast(weight, hidden.dtype()), 0, 1)), dtype);
    if (bias.defined()) logits = add(logits, cast(bias, dtype));
    const std::int64_t last[] = {-1};
    const Tensor peak = maximum_of(logits.detach(), last, true);
    const Tensor log_sum_exp =
        squeeze(add(log(sum(exp(subtract(logits, peak)), last, true)), peak), -1);
    const Tensor safe = where(valid, labels, scalar_like(labels, 0));
    const Tensor picked = squeeze(gather(logits, -1, unsqueeze(safe, -1)), -1);
    const double smoothing = options.label_smoothing;
    Tensor losses = subtract(log_sum_exp, multiply(picked, scalar_like(picked, 1.0 - smoothing)));
    if (smoothing != 0) {
        const Tensor average = mean(logits, last);
        losses = subtract(losses, multiply(average, scalar_like(average, smoothing)));
    }
    if (options.z_loss != 0) {
        const Tensor penalty = square(log_sum_exp);
        losses = add(losses, multiply(penalty, scalar_like(penalty, options.z_loss)));
    }
    return where(valid, losses, scalar_like(losses, 0));
}

}  // namespace tempra
