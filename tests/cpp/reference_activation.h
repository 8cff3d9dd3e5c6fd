// Activations and their derivatives in double, by the C library.
#pragma once

#include <cmath>

#include "tempra/activation.h"

namespace tempra {

inline double reference_activation(Activation kind, double x) {
    switch (kind) {
        case Activation::none: return x;
        case Activation::relu: return x > 0 ? x : 0;
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::gelu: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
        case Activation::gelu_tanh:
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return 0;
}

inline double reference_activation_derivative(Activation kind, double x) {
    switch (kind) {
        case Activation::none: return 1;
        case Activation::relu: return x > 0 ? 1 : 0;
        case Activation::silu: {
            const double sigmoid = 1 / (1 + std::exp(-x));
            return sigmoid + x * sigmoid * (1 - sigmoid);
        }
        case Activation::gelu:
            return 0.5 * std::erfc(-x / std::sqrt(2.0)) +
                   x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
        case Activation::gelu_tanh: {
            const double root = std::sqrt(2 / M_PI);
            const double t = std::tanh(root * (x + 0.044715 * x * x * x));
            return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
        }
    }
    return 0;
}

}  // namespace tempra
