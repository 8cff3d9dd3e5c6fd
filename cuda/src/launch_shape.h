// Grids and blocks as functions of sizes alone: never of the device, so that results do not depend
// on it. Plain C++ and host-tested.
#pragma once

#include <cstdint>

namespace tempra::cuda {

inline constexpr std::int64_t kLargestGrid = (std::int64_t{1} << 31) - 1;
inline constexpr int kElementwiseThreads = 256;

[[nodiscard]] constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

// Blocks of a kernel with one thread per unit of work; 0: nothing to do, -1: too many for a grid.
[[nodiscard]] constexpr std::int64_t grid_for(std::int64_t work, int threads) {
    const std::int64_t blocks = divide_up(work, threads);
    return blocks <= kLargestGrid ? blocks : -1;
}

}  // namespace tempra::cuda
