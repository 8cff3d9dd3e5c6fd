// Keys and positions in stable order (src/radix_sort.h): D. Merrill, A. Grimshaw: High performance
// and scalable radix sorting (2011), CUB's.
//
// Bytes moved: keys and positions in and out once per 8 bits of the key. Thread-to-data: CUB's.
// Deterministic: the order of a stable sort is the only one.
#include <cub/device/device_radix_sort.cuh>

#include "error_message.h"
#include "launch_shape.h"
#include "radix_sort.h"

namespace tempra::cuda {

namespace {

constexpr std::int64_t kAlignment = 256;

}  // namespace

template <class Key>
RadixSort<Key>::RadixSort(const char* name, std::int64_t count, int most_bits, void* stream)
    : name_(name), count_(count), stream_(stream) {
    Key* const no_keys = nullptr;
    std::uint32_t* const none = nullptr;
    const cudaError_t error = cub::DeviceRadixSort::SortPairs(
        nullptr, work_bytes_, no_keys, no_keys, none, none, static_cast<int>(count), 0, most_bits,
        static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) {
        status_ = fail_with_cuda_error(name, error);
        return;
    }
    const std::int64_t array = divide_up(count, kAlignment / 4) * (kAlignment / 4);
    const std::int64_t key_bytes = array * static_cast<std::int64_t>(sizeof(Key));
    scratch_.emplace(2 * (key_bytes + array * 4) + static_cast<std::int64_t>(work_bytes_), stream);
    if (!scratch_->ok()) {
        status_ = kKernelOutOfMemory;
        return;
    }
    keys = scratch_->as<Key>();
    sorted_keys = keys + array;
    positions = reinterpret_cast<std::uint32_t*>(sorted_keys + array);
    sorted_positions = positions + array;
    work_ = sorted_positions + array;
}

template <class Key>
KernelStatus RadixSort<Key>::sort(int bits) {
    const cudaError_t error = cub::DeviceRadixSort::SortPairs(
        work_, work_bytes_, keys, sorted_keys, positions, sorted_positions,
        static_cast<int>(count_), 0, bits, static_cast<cudaStream_t>(stream_));
    return error == cudaSuccess ? kKernelOk : fail_with_cuda_error(name_, error);
}

template class RadixSort<std::uint32_t>;
template class RadixSort<std::uint64_t>;

}  // namespace tempra::cuda
