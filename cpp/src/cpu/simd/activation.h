// Activations and their derivatives on Vec<float> and Vec<double>, shared by every kernel that
// applies one. Branch-free; f32 errors are below 1e-6 of the largest result near x, and the tails
// of silu and both gelus keep their relative accuracy. NaN stays NaN; derivatives are finite at
// +-inf.
//
//   sigmoid(x)   = 1 / (1 + exp(-x))
//   silu(x)      = x * sigmoid(x)
//   gelu(x)      = x * Phi(x), Phi the normal distribution function
//   gelu_tanh(x) = x/2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3)
#pragma once

#include "dispatch/kernel_table.h"
#include "simd/vec.h"
#include "simd/vec_math.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace activation_detail {

// Unlike minimum and maximum of vec.h, NaN passes.
template <class V>
inline V clamp_keeping_nan(V x, V low, V high) {
    const V above = low > x ? low : x;
    return high < above ? high : above;
}

template <class A>
inline Vec<A> logistic(Vec<A> x) {
    return A(1) / (A(1) + exp(-x));
}
// `complement` receives 1 - logistic(x) = logistic(-x), free of cancellation for large x.
template <class A>
inline Vec<A> logistic(Vec<A> x, Vec<A>& complement) {
    const Vec<A> decay = exp(x < A(0) ? x : -x);
    const Vec<A> larger = A(1) / (A(1) + decay);
    const Vec<A> smaller = decay * larger;
    complement = x < A(0) ? larger : smaller;
    return x < A(0) ? smaller : larger;
}

// Phi(-|x|) = exp(-x^2/2) * P(t), t = 1 / (1 + 0.2316419 |x|): the form of Abramowitz & Stegun
// 26.2.17 with eight terms of our own minimax fit (relative error 1.1e-7 for |x| <= 13.2).
// `gauss` receives exp(-x^2/2), which the derivative needs too.
inline VecFloat normal_distribution(VecFloat x, VecFloat& gauss) {
    const VecFloat magnitude = x < 0.0F ? -x : x;
    gauss = exp(x * x * -0.5F);
    const VecFloat t = 1.0F / (1.0F + magnitude * 0.2316419F);
    VecFloat p = broadcast<float>(-0.07100363409736014F);
    p = p * t + 0.25018299423247914F;
    p = p * t + -0.2061367087898403F;
    p = p * t + 0.22957509482614563F;
    p = p * t + 0.011130712909220996F;
    p = p * t + 0.10343592813362051F;
    p = p * t + 0.09028363358757452F;
    p = p * t + 0.0925320292601048F;
    const VecFloat tail = gauss * (p * t);
    return x < 0.0F ? tail : 1.0F - tail;
}
inline VecDouble normal_distribution(VecDouble x, VecDouble& gauss) {
    gauss = exp(x * x * -0.5);
    return map_lanes(x, [](double v) { return 0.5 * std::erfc(v * -0.70710678118654752440); });
}

}  // namespace activation_detail

// Template argument: the arithmetic type, float or double.

template <class A>
inline Vec<A> relu(Vec<A> x) {
    return x < A(0) ? Vec<A>{} : x;
}
template <class A>
inline Vec<A> relu_derivative(Vec<A> x) {
    return x <= A(0) ? Vec<A>{} : broadcast<A>(A(1));
}

template <class A>
inline Vec<A> silu(Vec<A> x) {
    return x * activation_detail::logistic<A>(x);
}
template <class A>
inline Vec<A> silu_derivative(Vec<A> x) {
    x = activation_detail::clamp_keeping_nan(x, broadcast<A>(A(-800)), broadcast<A>(A(800)));
    Vec<A> complement;
    const Vec<A> s = activation_detail::logistic<A>(x, complement);
    return s * (A(1) + x * complement);
}

template <class A>
inline Vec<A> gelu(Vec<A> x) {
    Vec<A> gauss;
    return x * activation_detail::normal_distribution(x, gauss);
}
template <class A>
inline Vec<A> gelu_derivative(Vec<A> x) {
    x = activation_detail::clamp_keeping_nan(x, broadcast<A>(A(-60)), broadcast<A>(A(60)));
    Vec<A> gauss;
    const Vec<A> distribution = activation_detail::normal_distribution(x, gauss);
    return distribution + x * gauss * A(0.39894228040143267794);  // 1 / sqrt(2 pi)
}

inline constexpr double kGeluTanhScale = 1.59576912160573071176;  // 2 * sqrt(2 / pi)
inline constexpr double kGeluTanhCubic = 0.044715;

template <class A>
inline Vec<A> gelu_tanh(Vec<A> x) {
    const Vec<A> twice_u = x * (A(kGeluTanhScale) + A(kGeluTanhScale * kGeluTanhCubic) * (x * x));
    return x * activation_detail::logistic<A>(twice_u);
}
template <class A>
inline Vec<A> gelu_tanh_derivative(Vec<A> x) {
    x = activation_detail::clamp_keeping_nan(x, broadcast<A>(A(-60)), broadcast<A>(A(60)));
    const Vec<A> square = x * x;
    const Vec<A> twice_u = x * (A(kGeluTanhScale) + A(kGeluTanhScale * kGeluTanhCubic) * square);
    const Vec<A> slope = A(kGeluTanhScale) + A(3 * kGeluTanhScale * kGeluTanhCubic) * square;
    Vec<A> complement;
    const Vec<A> s = activation_detail::logistic<A>(twice_u, complement);
    return s + x * slope * (s * complement);
}

template <class A, Activation kActivation>
inline Vec<A> activate(Vec<A> x) {
    if constexpr (kActivation == Activation::relu) return relu<A>(x);
    if constexpr (kActivation == Activation::silu) return silu<A>(x);
    if constexpr (kActivation == Activation::gelu) return gelu<A>(x);
    if constexpr (kActivation == Activation::gelu_tanh) return gelu_tanh<A>(x);
    return x;
}
template <class A, Activation kActivation>
inline Vec<A> activation_derivative(Vec<A> x) {
    if constexpr (kActivation == Activation::relu) return relu_derivative<A>(x);
    if constexpr (kActivation == Activation::silu) return silu_derivative<A>(x);
    if constexpr (kActivation == Activation::gelu) return gelu_derivative<A>(x);
    if constexpr (kActivation == Activation::gelu_tanh) return gelu_tanh_derivative<A>(x);
    return broadcast<A>(A(1));
}

// The same, chosen at run time; the branch is per vector and predicted.
template <class A>
inline Vec<A> activate(Activation activation, Vec<A> x) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return relu<A>(x);
        case Activation::silu: return silu<A>(x);
        case Activation::gelu: return gelu<A>(x);
        case Activation::gelu_tanh: return gelu_tanh<A>(x);
    }
    return x;
}
template <class A>
inline Vec<A> activation_derivative(Activation activation, Vec<A> x) {
    switch (activation) {
        case Activation::none: return broadcast<A>(A(1));
        case Activation::relu: return relu_derivative<A>(x);
        case Activation::silu: return silu_derivative<A>(x);
        case Activation::gelu: return gelu_derivative<A>(x);
        case Activation::gelu_tanh: return gelu_tanh_derivative<A>(x);
    }
    return broadcast<A>(A(1));
}

}  // namespace tempra::cpu::TEMPRA_ISA
