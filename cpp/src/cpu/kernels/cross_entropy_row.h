// One row of logits to its loss and to the gradient of the logits, in place:
//   lse = m + log(sum exp(x - m)),  m = max x
//   loss = (1 - smoothing) (lse - x[label]) + smoothing (lse - mean(x)) + z lse^2
//   dx_i = scale (p_i (1 + 2 z lse) - (1 - smoothing) [i == label] - smoothing / n),  p = exp(x -
//   lse)
//
// A row of a large vocabulary (200 KB) stays in the second-level cache between the passes: maximum,
// exponential and sum, gradient. The exponentials of the loss pass stay in the row, so the fused
// gradient needs no second exponential. bf16 gradients overwrite the first half of the row's bytes:
// each vector is read before anything is stored at or behind its place.
#pragma once

#include "simd/row_loop.h"
#include "simd/vec_math.h"

namespace tempra::cpu::TEMPRA_ISA {

struct LossOptions {
    double label_smoothing;
    double z_loss;
};

template <class A>
struct RowStatistics {
    A largest, total;  // m and sum exp(x - m)
    double logit_sum;  // filled when label smoothing needs it
    double label_logit;
    double log_sum_exp;
};

// kKeepExponentials: the row holds exp(x - m) afterwards.
template <bool kKeepExponentials, class A>
RowStatistics<A> row_log_sum_exp(A* row, std::int64_t columns, std::int64_t label,
                                 bool with_logit_sum) {
    const A lowest = -static_cast<A>(__builtin_inf());
    FourVectors<A> best(lowest), sum(0), logits(0);
    if (with_logit_sum) {
        for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
            best.v[k] = maximum<A>(best.v[k], load<A>(row + i, lanes, lowest));
            logits.v[k] += load<A>(row + i, lanes);
        });
    } else {
        for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
            best.v[k] = maximum<A>(best.v[k], load<A>(row + i, lanes, lowest));
        });
    }
    RowStatistics<A> s{};
    s.largest = best.maximum_of_all();
    s.logit_sum = static_cast<double>(logits.sum());
    s.label_logit = label >= 0 ? static_cast<double>(row[label]) : 0.0;
    const Vec<A> shift = broadcast<A>(s.largest);
    for_each_vector_in_turn<A>(columns, [&](std::int64_t i, auto lanes, int k) {
        const A fill = -static_cast<A>(__builtin_inf());
        const Vec<A> e = exp(load<A>(row + i, lanes, fill) - shift);
        if constexpr (kKeepExponentials) store<A>(row + i, e, lanes);
        sum.v[k] += e;
    });
    s.total = sum.sum();
    s.log_sum_exp = static_cast<double>(s.largest) + __builtin_log(static_cast<double>(s.total));
    return s;
}

// In double: near-equal numbers are subtracted when logits are large.
template <class A>
double row_loss(const RowStatistics<A>& s, std::int64_t columns, const LossOptions& options) {
    double loss = (1.0 - options.label_smoothing) * (s.log_sum_exp - s.label_logit);
    if (options.label_smoothing != 0.0) {
        const double mean = s.logit_sum / static_cast<double>(columns);
        loss += options.label_smoothing * (s.log_sum_exp - mean);
    }
    if (options.z_loss != 0.0) loss += options.z_loss * s.log_sum_exp * s.log_sum_exp;
    return loss;
}

// dx from the row's exponentials, `total` their sum; or, kFromLogits, from the logits and `shift` =
// log_sum_exp (then `total` is 1). T is the gradient's storage type.
template <class T, bool kFromLogits, class A>
void row_gradient(A* row, std::int64_t columns, std::int64_t label, A shift, A total,
                  double log_sum_exp, double scale, const LossOptions& options) {
    const A factor = static_cast<A>(scale * (1.0 + 2.0 * options.z_loss * log_sum_exp) /
                                    static_cast<double>(total));
    const A constant =
        static_cast<A>(-scale * options.label_smoothing / static_cast<double>(columns));
    const Vec<A> shifts = broadcast<A>(shift);
    A at_label = row[label];
    if constexpr (kFromLogits) at_label = exp(broadcast<A>(at_label) - shifts)[0];
    T* const out = reinterpret_cast<T*>(row);
    for_each_vector<A>(columns, [&](std::int64_t i, auto lanes) {
        Vec<A> e = load<A>(row + i, lanes);
        if constexpr (kFromLogits) e = exp(e - shifts);
        store<A>(out + i, e * factor + constant, lanes);
    });
    const A target = static_cast<A>(scale * (1.0 - options.label_smoothing));
    const T rounded = from_arithmetic<T>(at_label * factor + constant - target);
    std::memcpy(out + label, &rounded, sizeof(T));
}

template <class T, class A>
void clear_gradient_row(A* row, std::int64_t columns) {
    T* const out = reinterpret_cast<T*>(row);
    for_each_vector<A>(columns,
                       [&](std::int64_t i, auto lanes) { store<A>(out + i, Vec<A>{}, lanes); });
}

}  // namespace tempra::cpu::TEMPRA_ISA
