// What device/tensor_core.cuh has in machine instructions.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cuda_fp16.h"
#include "cuda_runtime.h"
#include "tempra/dtype.h"

namespace tempra::cuda {

template <class T>
float half_of(std::uint32_t word, int which) {
    const auto bits = static_cast<std::uint16_t>(which == 0 ? word : word >> 16);
    if constexpr (std::is_same_v<T, bfloat16>) return bfloat16{bits}.to_float();
    return __half2float(__ushort_as_half(bits));
}

template <class T>
void multiply_accumulate(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                         std::uint32_t b1) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned char* const all = emulation::exchange_in_warp(mine, sizeof(mine));
    const auto word = [&](int lane, int which) {
        std::uint32_t value;
        std::memcpy(&value, all + lane * emulation::kExchangeBytes + which * 4, 4);
        return value;
    };
    const int lane = static_cast<int>(threadIdx.x % 32), group = lane / 4, pair = lane % 4;
    for (int i = 0; i < 4; ++i) {
        const int row_half = i / 2, column = 2 * pair + i % 2;
        for (int k = 0; k < 16; ++k) {
            const int from = group * 4 + k % 8 / 2;
            const float left = half_of<T>(word(from, row_half + 2 * (k / 8)), k % 2);
            const float right = half_of<T>(word(column * 4 + k % 8 / 2, 4 + k / 8), k % 2);
            d[i] += left * right;
        }
    }
}

inline void load_any_matrices(std::uint32_t (&to)[4], const void* row, bool transposed) {
    if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
        std::fprintf(stderr, "emulated device: ldmatrix from an address off 16 bytes\n");
        std::abort();
    }
    const unsigned char* const all = emulation::exchange_in_warp(&row, sizeof(row));
    const int lane = static_cast<int>(threadIdx.x % 32);
    for (int j = 0; j < 4; ++j) {
        std::uint32_t halves[2];
        for (int i = 0; i < 2; ++i) {
            const int at_row = transposed ? 2 * (lane % 4) + i : lane / 4;
            const int at_column = transposed ? lane / 4 : 2 * (lane % 4) + i;
            const std::uint16_t* from;
            std::memcpy(&from, all + (j * 8 + at_row) * emulation::kExchangeBytes, sizeof(from));
            halves[i] = from[at_column];
        }
        to[j] = halves[0] | halves[1] << 16;
    }
}
inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
    load_any_matrices(to, row, false);
}
inline void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
    load_any_matrices(to, row, true);
}

inline void copy_async(void* to_shared, const void* from_global) {
    emulation::start_copy(to_shared, from_global, 16);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int kPending>
inline void wait_for_copies() {
    emulation::wait_for_copies(kPending);
}

}  // namespace tempra::cuda
