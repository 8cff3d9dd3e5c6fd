// Treats denormal numbers as zero for a scope, on this thread. Decaying moments of parameters that
// get no gradient would otherwise end as denormals, on which arithmetic can be a hundred times
// slower.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

class FlushDenormals {
  public:
#if defined(__SSE__)
    FlushDenormals() : saved_(_mm_getcsr()) {
        _mm_setcsr(saved_ | 0x8040U);  // flush-to-zero, denormals-are-zero
    }
    ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
    FlushDenormals() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
        __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (std::uint64_t{1} << 24)));
    }
    ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
    FlushDenormals() = default;
#endif
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
#if defined(__aarch64__)
    std::uint64_t saved_ = 0;
#else
    [[maybe_unused]] unsigned saved_ = 0;
#endif
};

}  // namespace tempra::cpu::TEMPRA_ISA
