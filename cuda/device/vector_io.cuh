// Packs of elements in one access of up to 16 bytes, partial packs element by element.
#pragma once

#include <cstring>

#include "arithmetic.cuh"

namespace tempra::cuda {

template <int kBytes>
struct MemoryWord;
template <>
struct MemoryWord<1> {
    using type = std::uint8_t;
};
template <>
struct MemoryWord<2> {
    using type = std::uint16_t;
};
template <>
struct MemoryWord<4> {
    using type = std::uint32_t;
};
template <>
struct MemoryWord<8> {
    using type = uint2;
};
template <>
struct MemoryWord<16> {
    using type = uint4;
};

// Elements in 16 bytes.
template <class T>
inline constexpr int kPackOf = 16 / static_cast<int>(sizeof(T));

// `from` is aligned to the pack's size.
template <class T, int kPack>
__device__ __forceinline__ void load_whole(const T* from, Arithmetic<T> (&to)[kPack]) {
    using Word = typename MemoryWord<kPack* static_cast<int>(sizeof(T))>::type;
    const Word word = *reinterpret_cast<const Word*>(from);
    T elements[kPack];
    memcpy(elements, &word, sizeof(word));
#pragma unroll
    for (int i = 0; i < kPack; ++i) to[i] = to_arithmetic(elements[i]);
}

template <class T, int kPack>
__device__ __forceinline__ void store_whole(const Arithmetic<T> (&from)[kPack], T* to) {
    using Word = typename MemoryWord<kPack* static_cast<int>(sizeof(T))>::type;
    T elements[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) elements[i] = from_arithmetic<T>(from[i]);
    Word word;
    memcpy(&word, elements, sizeof(word));
    *reinterpret_cast<Word*>(to) = word;
}

// The first `count` elements, at any alignment; the rest become `fill`.
template <class T, int kPack>
__device__ __forceinline__ void load_first(const T* from, int count, Arithmetic<T> fill,
                                           Arithmetic<T> (&to)[kPack]) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) to[i] = i < count ? to_arithmetic(from[i]) : fill;
}

template <class T, int kPack>
__device__ __forceinline__ void store_first(const Arithmetic<T> (&from)[kPack], int count, T* to) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
        if (i < count) to[i] = from_arithmetic<T>(from[i]);
    }
}

}  // namespace tempra::cuda
