// Activations that a fused operation can apply on the way out.
#pragma once

#include <cstdint>

namespace tempra {

enum class Activation : std::int32_t { none, relu, silu, gelu, gelu_tanh };

}  // namespace tempra
