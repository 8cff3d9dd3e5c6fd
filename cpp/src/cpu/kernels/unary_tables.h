// Functions of one bf16 number as tables: there are only 65,536 such numbers.
//
// Looking a result up takes two loads; computing it takes 25 to 45 cycles for 16 numbers with
// AVX-512 and 70 to 100 with AVX2. Tables are filled by the very functions they stand for, so a
// result is the same to the last bit whether or not a table is used. What is in use of a table is
// small (activations between 1/64 and 4 lie in 2,048 of its entries) and stays in the first caches.
#pragma once

#include "dispatch/kernel_table.h"
#include "kernels/strided_loop.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

// Arrays with fewer elements are computed: a table would first have to be filled and to come into
// the caches.
inline constexpr std::int64_t kLeastElementsForTable = 16384;

// With AVX-512 an activation in registers costs less than going through memory to a table of f32.
#if defined(__AVX512F__)
inline constexpr bool kActivationsFromTable = false;
#else
inline constexpr bool kActivationsFromTable = true;
#endif

// Indexed by the bits of x; null where the function has no table, where `count` elements are too
// few for one, or while another thread fills it.
const std::uint16_t* table_of_values(UnaryOp op, std::int64_t count);  // f(x) in bf16
const float* table_of_derivatives(UnaryOp op, std::int64_t count);     // f'(x), of f(x)'s input
const float* table_of_activation(Activation activation, std::int64_t count);  // f(x) in f32

// Block functions for run_strided_loop; `context` is the table.
void look_up_values(const void* table, char* const* operands, std::int64_t n);        // out, x
void multiply_derivatives(const void* table, char* const* operands, std::int64_t n);  // out, x, g

// kLanes<float> numbers.
inline VecFloat look_up(const float* table, const bfloat16* x) {
    float found[kLanes<float>];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<float>; ++i) found[i] = table[x[i].bits];
    return load<float>(found);
}

}  // namespace tempra::cpu::TEMPRA_ISA
