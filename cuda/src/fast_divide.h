// Division by a number known before the launch, as a multiplication and a shift (T. Granlund, P.
// Montgomery: Division by invariant integers using multiplication, 1994). For dividends below 2^31.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define TEMPRA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TEMPRA_HOST_DEVICE inline
#endif

namespace tempra::cuda {

struct FastDivide {
    std::uint32_t divisor = 1, multiplier = 1, shift = 0;

    FastDivide() = default;
    // 1 <= by < 2^31
    explicit FastDivide(std::uint32_t by) : divisor(by) {
        shift = by == 1 ? 0 : 32U - static_cast<std::uint32_t>(std::countl_zero(by - 1));
        const std::uint64_t power = std::uint64_t{1} << shift;
        multiplier = static_cast<std::uint32_t>(((power - by) << 32) / by + 1);
    }

    [[nodiscard]] TEMPRA_HOST_DEVICE std::uint32_t quotient(std::uint32_t dividend) const {
#if defined(__CUDA_ARCH__)
        const std::uint32_t high = __umulhi(dividend, multiplier);
#else
        const auto high = static_cast<std::uint32_t>((std::uint64_t{dividend} * multiplier) >> 32);
#endif
        return (high + dividend) >> shift;
    }
};

}  // namespace tempra::cuda
