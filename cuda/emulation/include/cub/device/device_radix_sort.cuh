// A stable sort in the place of CUB's.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "cuda_runtime.h"
#include "device_access.h"

namespace cub {

struct DeviceRadixSort {
    template <class Key, class Value>
    static cudaError_t SortPairs(void* work, std::size_t& work_bytes, const Key* keys,
                                 Key* sorted_keys, const Value* values, Value* sorted_values,
                                 int count, int first_bit, int end_bit, cudaStream_t stream) {
        if (work == nullptr) {
            work_bytes = 256;
            return cudaSuccess;
        }
        tempra::cuda::emulation::perform(stream, [=] {
            sort(keys, sorted_keys, values, sorted_values, count, first_bit, end_bit);
        });
        return cudaSuccess;
    }

  private:
    template <class Key, class Value>
    static void sort(const Key* keys, Key* sorted_keys, const Value* values, Value* sorted_values,
                     int count, int first_bit, int end_bit) {
        const tempra::cuda::emulation::DeviceAccess access;
        const Key mask = end_bit >= static_cast<int>(sizeof(Key)) * 8
                             ? static_cast<Key>(~Key{0})
                             : static_cast<Key>((Key{1} << end_bit) - 1);
        std::vector<int> order(static_cast<std::size_t>(count));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
            return (keys[a] & mask) >> first_bit < (keys[b] & mask) >> first_bit;
        });
        const std::vector<Key> old_keys(keys, keys + count);
        const std::vector<Value> old_values(values, values + count);
        for (std::size_t i = 0; i < order.size(); ++i) {
            sorted_keys[i] = old_keys[static_cast<std::size_t>(order[i])];
            sorted_values[i] = old_values[static_cast<std::size_t>(order[i])];
        }
    }
};

}  // namespace cub
