// What device code is written in, for a C++ compiler: qualifiers that mean nothing here, the
// thread's indices, barriers and exchanges within a warp, and the device's functions of numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>

#include "cuda_runtime_api.h"
#include "emulated_stream.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static

struct uint3 {
    unsigned x, y, z;
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    constexpr dim3(unsigned width = 1, unsigned height = 1, unsigned depth = 1)
        : x(width), y(height), z(depth) {}
};

namespace tempra::cuda::emulation {

// Of the thread that runs now.
extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;

void wait_for_block();
// Everyone of the warp leaves `bytes` (up to 64) and gets all 32 pieces, kExchangeBytes apart; they
// stay until the exchange after the next.
inline constexpr int kExchangeBytes = 64;
const unsigned char* exchange_in_warp(const void* mine, int bytes);
[[nodiscard]] void* dynamic_shared_memory();
[[nodiscard]] bool is_on_device(const void* address);

// Copies arrive no earlier than they are waited for.
void start_copy(void* to, const void* from, int bytes);
void commit_copies();
void wait_for_copies(int pending);

class Launch {
  public:
    Launch(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream);
    // Arguments are copied, as a device's are: a launch may run later, and again.
    template <class Kernel, class... Arguments>
    void run(const Kernel& kernel, const Arguments&... arguments) const {
        perform(stream_, [*this, kernel, given = std::tuple<Arguments...>(arguments...)] {
            const auto body = [&] { std::apply(kernel, given); };
            using Body = decltype(body);
            run_threads([](const void* context) { (*static_cast<Body*>(context))(); }, &body);
        });
    }

  private:
    void run_threads(void (*thread)(const void*), const void* context) const;
    dim3 grid_, block_;
    std::size_t shared_bytes_;
    cudaStream_t stream_;
};

}  // namespace tempra::cuda::emulation

#define threadIdx (::tempra::cuda::emulation::thread_index)
#define blockIdx (::tempra::cuda::emulation::block_index)
#define blockDim (::tempra::cuda::emulation::block_size)
#define gridDim (::tempra::cuda::emulation::grid_size)

inline void __syncthreads() { tempra::cuda::emulation::wait_for_block(); }
inline void __syncwarp(unsigned = 0xFFFFFFFFU) {
    const char nothing = 0;
    tempra::cuda::emulation::exchange_in_warp(&nothing, 1);
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    using namespace tempra::cuda::emulation;
    const unsigned char* const all = exchange_in_warp(&value, sizeof(T));
    T other;
    std::memcpy(&other, all + (lane % 32) * kExchangeBytes, sizeof(T));
    return other;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
    return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ distance);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
    const int lane = static_cast<int>(threadIdx.x % 32), from = lane - static_cast<int>(distance);
    return __shfl_sync(mask, value, from < 0 ? lane : from);
}

inline float __uint_as_float(unsigned raw) {
    float value;
    std::memcpy(&value, &raw, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned raw;
    std::memcpy(&raw, &value, 4);
    return raw;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float normcdff(float x) {
    return static_cast<float>(0.5 * std::erfc(-static_cast<double>(x) * 0.70710678118654752));
}
inline void sincospif(float x, float* sine, float* cosine) {
    *sine = static_cast<float>(std::sin(M_PI * static_cast<double>(x)));
    *cosine = static_cast<float>(std::cos(M_PI * static_cast<double>(x)));
}
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
// Traps on an address off the word's size or outside device memory, as a device does.
template <class Word>
void __stwb(Word* to, Word word) {
    if (reinterpret_cast<std::uintptr_t>(to) % sizeof(Word) != 0) __builtin_trap();
    if (!tempra::cuda::emulation::is_on_device(to)) __builtin_trap();
    std::memcpy(to, &word, sizeof(Word));
}
using std::isfinite;
using std::isinf;
using std::isnan;
inline int max(int a, int b) { return a > b ? a : b; }
