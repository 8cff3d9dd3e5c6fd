// What happens to one sum of a matrix product on its way to c, as on the CPU and in its order.
#pragma once

#include "activation.cuh"
#include "arithmetic.cuh"
#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// C: storage type of c. Pointers are null when absent.
template <class C>
struct GemmEpilogue {
    C* c;
    const void* bias;
    const C* residual;
    C* pre_activation;
    const C* activation_input;
    std::int64_t c_stride, c_batch_stride, residual_stride, pre_activation_stride,
        activation_input_stride;
    Activation activation;
    DType bias_dtype;
    bool accumulate;

    [[nodiscard]] __device__ __forceinline__ float bias_at(std::int64_t column) const {
        switch (bias_dtype) {
            case DType::bf16: return to_arithmetic(static_cast<const bfloat16*>(bias)[column]);
            case DType::f16: return to_arithmetic(static_cast<const float16*>(bias)[column]);
            default: return static_cast<const float*>(bias)[column];
        }
    }
    __device__ __forceinline__ void finish(float x, std::int64_t batch, std::int64_t row,
                                           std::int64_t column) const {
        if (bias != nullptr) x += bias_at(column);
        if (pre_activation != nullptr) {
            pre_activation[row * pre_activation_stride + column] = from_arithmetic<C>(x);
        }
        if (activation_input != nullptr) {
            x *=
                derivative(to_arithmetic(activation_input[row * activation_input_stride + column]));
        } else if (activation != Activation::none) {
            x = activate(to_arithmetic(from_arithmetic<C>(x)));  // of the value as it is stored
        }
        if (residual != nullptr) x += to_arithmetic(residual[row * residual_stride + column]);
        C* const target = c + batch * c_batch_stride + row * c_stride + column;
        if (accumulate) x += to_arithmetic(*target);
        *target = from_arithmetic<C>(x);
    }
    [[nodiscard]] __device__ __forceinline__ float activate(float x) const {
        switch (activation) {
            case Activation::relu: return relu(x);
            case Activation::silu: return silu(x);
            case Activation::gelu: return gelu(x);
            case Activation::gelu_tanh: return gelu_tanh(x);
            default: return x;
        }
    }
    [[nodiscard]] __device__ __forceinline__ float derivative(float x) const {
        switch (activation) {
            case Activation::relu: return x <= 0.0F ? 0.0F : 1.0F;
            case Activation::silu: return silu_derivative(x);
            case Activation::gelu: return gelu_derivative(x);
            case Activation::gelu_tanh: return gelu_tanh_derivative(x);
            default: return 1.0F;
        }
    }
};

template <class C>
[[nodiscard]] inline GemmEpilogue<C> gemm_epilogue_of(const GemmArguments& g) {
    const auto row_stride = [](const TensorView& view) {
        return view.present() ? view.stride(-2) : 0;
    };
    return {g.c.as<C>(),
            g.bias.present() ? g.bias.data : nullptr,
            g.residual.present() ? g.residual.as<const C>() : nullptr,
            g.pre_activation.present() ? g.pre_activation.as<C>() : nullptr,
            g.activation_input.present() ? g.activation_input.as<const C>() : nullptr,
            g.c.stride(-2),
            g.c.dimensions == 3 ? g.c.strides[0] : 0,
            row_stride(g.residual),
            row_stride(g.pre_activation),
            row_stride(g.activation_input),
            g.activation,
            g.bias.dtype,
            g.accumulate != 0};
}

}  // namespace tempra::cuda
