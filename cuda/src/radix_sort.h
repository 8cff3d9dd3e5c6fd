// A stable sort of keys with their positions, for kernels that need an order: CUB's radix sort, in
// a file of its own so that it is compiled once.
#pragma once

#include <cstdint>
#include <optional>

#include "devices.h"
#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// Key: std::uint32_t or std::uint64_t. The arrays are scratch memory: live as long as this.
template <class Key>
class RadixSort {
  public:
    // Room for `count` pairs (up to 2^31 - 1) and sorts by up to `most_bits` bits. `name` appears
    // in errors.
    RadixSort(const char* name, std::int64_t count, int most_bits, void* stream);
    [[nodiscard]] KernelStatus status() const { return status_; }

    // By the lowest `bits` bits: keys and positions to sorted_keys and sorted_positions.
    [[nodiscard]] KernelStatus sort(int bits);

    Key *keys = nullptr, *sorted_keys = nullptr;
    std::uint32_t *positions = nullptr, *sorted_positions = nullptr;

  private:
    const char* name_;
    std::int64_t count_;
    void* stream_;
    std::optional<Scratch> scratch_;
    void* work_ = nullptr;
    std::size_t work_bytes_ = 0;
    KernelStatus status_ = kKernelOk;
};

// Bits that hold all numbers up to `largest`; at least 1.
[[nodiscard]] constexpr int bits_for(std::int64_t largest) {
    int bits = 1;
    while (bits < 63 && (largest >> bits) != 0) ++bits;
    return bits;
}

}  // namespace tempra::cuda
