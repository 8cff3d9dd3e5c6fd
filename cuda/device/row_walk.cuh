// A block's threads walk a row together, a pack each: element i * kPack + lane * kPack and on by
// blockDim packs. With kPack 1 rows may lie at any address.
#pragma once

#include <cstdint>

#include "vector_io.cuh"

namespace tempra::cuda {

// body(first element, elements of the pack that exist)
template <int kPack, class Body>
__device__ __forceinline__ void for_each_pack(std::int64_t columns, const Body& body) {
    const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * kPack;
    for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kPack; i < columns; i += step) {
        const std::int64_t left = columns - i;
        body(i, left < kPack ? static_cast<int>(left) : kPack);
    }
}

template <class T, int kPack>
__device__ __forceinline__ void load_pack(const T* from, int count, Arithmetic<T> fill,
                                          Arithmetic<T> (&to)[kPack]) {
    if (count == kPack) {
        load_whole<T, kPack>(from, to);
    } else {
        load_first<T, kPack>(from, count, fill, to);
    }
}

template <class T, int kPack>
__device__ __forceinline__ void store_pack(const Arithmetic<T> (&from)[kPack], int count, T* to) {
    if (count == kPack) {
        store_whole<T, kPack>(from, to);
    } else {
        store_first<T, kPack>(from, count, to);
    }
}

}  // namespace tempra::cuda
