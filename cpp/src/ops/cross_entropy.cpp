#include "tempra/ops/cross_entropy.h"

#include <algorithm>

#include "tempra/autograd.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/reduce.h"
#include "tempra/ops/softmax.h"

namespace tempra {

namespace {

void check_arguments(const Tensor& logits, const Tensor& labels,
                     const CrossEntropyOptions& options) {
    Shape expected = logits.sizes();
    if (expected.dimensions() > 0) expected.erase(expected.dimensions() - 1);
    TEMPRA_CHECK(ShapeError, logits.dimensions() > 0 && labels.sizes() == expected,
                 "cross_entropy: labels of shape {} given for logits of shape {}; needs logits "
                 "[..., classes] and labels [...]",
                 labels.sizes(), logits.sizes());
    TEMPRA_CHECK(DtypeError, is_floating(logits.dtype()),
                 "cross_entropy: logits of dtype {}; needs a floating-point dtype", logits.dtype());
    TEMPRA_CHECK(DtypeError, !is_floating(labels.dtype()) && labels.dtype() != DType::boolean,
                 "cross_entropy: labels of dtype {}; needs an integer dtype", labels.dtype());
    TEMPRA_CHECK(ConfigError, options.label_smoothing >= 0 && options.label_smoothing <= 1,
                 "cross_entropy: label_smoothing {} given; needs 0 to 1", options.label_smoothing);
}

// Negative labels would otherwise count from the end, as indices do.
void check_range(const Tensor& safe_labels, std::int64_t classes) {
    if (safe_labels.numel() == 0 || safe_labels.device().type != DeviceType::cpu) return;
    const double lowest = minimum_of(safe_labels).item();
    const double highest = maximum_of(safe_labels).item();
    TEMPRA_CHECK(ShapeError, lowest >= 0 && highest < static_cast<double>(classes),
                 "cross_entropy: labels reach from {} to {}; needs 0 to {} (or ignore_index)",
                 lowest, highest, classes - 1);
}

// On a device nothing is read back: gathering finds labels that are out of range, and negative ones
// are made so.
Tensor out_of_range_if_negative(const Tensor& safe_labels, std::int64_t classes) {
    if (safe_labels.device().type == DeviceType::cpu) return safe_labels;
    const Tensor outside = scalar_like(safe_labels, static_cast<double>(classes));
    return where(less(safe_labels, scalar_like(safe_labels, 0)), outside, safe_labels);
}

Tensor times(const Tensor& x, double factor) { return multiply(x, scalar_like(x, factor)); }

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels,
                     const CrossEntropyOptions& options) {
    check_arguments(logits, labels, options);
    const std::int64_t last[] = {-1};
    const Tensor x = logits.dtype() == DType::f64 ? logits : cast(logits, DType::f32);
    Tensor valid;
    Tensor index;
    {
        const GradModeGuard off(false);
        const Tensor whole = cast(labels, DType::i64);
        const Tensor ignored = scalar_like(whole, static_cast<double>(options.ignore_index));
        valid = not_equal(whole, ignored);
        const Tensor safe = where(valid, whole, scalar_like(whole, 0));
        check_range(safe, x.size(-1));
        index = unsqueeze(out_of_range_if_negative(safe, x.size(-1)), -1);
    }
    const Tensor log_probabilities = log_softmax(x);
    Tensor losses = negative(squeeze(gather(log_probabilities, -1, index), -1));
    if (options.label_smoothing > 0) {
        const Tensor spread = negative(mean(log_probabilities, last));
        losses =
            add(times(losses, 1 - options.label_smoothing), times(spread, options.label_smoothing));
    }
    if (options.z_loss != 0) {
        losses = add(losses, times(square(log_sum_exp(x, last)), options.z_loss));
    }
    losses = where(valid, losses, scalar_like(losses, 0));
    if (options.reduction == Reduction::none) return losses;
    const Tensor total = sum(losses);
    if (options.reduction == Reduction::sum) return total;
    if (x.device().type == DeviceType::cpu) {
        return times(total, 1.0 / std::max(sum(valid).item(), 1.0));
    }
    Tensor counted;
    {
        const GradModeGuard off(false);
        const Tensor count = cast(sum(valid), total.dtype());
        counted = maximum(count, scalar_like(count, 1));
    }
    return divide(total, counted);
}

}  // namespace tempra
