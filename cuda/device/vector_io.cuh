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

// To device memory, in one instruction: as an assignment the compiler may store the word's members
// one by one.
template <class Word>
__device__ __forceinline__ void store_word(Word* to, const Word& word) {
    if constexpr (sizeof(Word) >= 8) {
        __stwb(to, word);
    } else {
        *to = word;
    }
}

// Elements in 16 bytes.
template <class T>
inline constexpr int kPackOf = 16 / static_cast<int>(sizeof(T));

// A pack of more than 16 bytes (fp32 parameters beside bf16 data) takes several words.
template <class T, int kPack>
struct PackWords {
    static constexpr int kBytes = kPack * static_cast<int>(sizeof(T));
    static constexpr int kCount = kBytes > 16 ? kBytes / 16 : 1;
    using Word = typename MemoryWord<kBytes / kCount>::type;
};

// `from` is aligned to the pack's size, or to 16 bytes.
template <class T, int kPack>
__device__ __forceinline__ void load_whole(const T* from, Arithmetic<T> (&to)[kPack]) {
    using Words = PackWords<T, kPack>;
    typename Words::Word words[Words::kCount];
#pragma unroll
    for (int i = 0; i < Words::kCount; ++i) {
        words[i] = reinterpret_cast<const typename Words::Word*>(from)[i];
    }
    T elements[kPack];
    memcpy(elements, words, sizeof(words));
#pragma unroll
    for (int i = 0; i < kPack; ++i) to[i] = to_arithmetic(elements[i]);
}

// `to` is in device memory, never shared.
template <class T, int kPack>
__device__ __forceinline__ void store_whole(const Arithmetic<T> (&from)[kPack], T* to) {
    using Words = PackWords<T, kPack>;
    T elements[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) elements[i] = from_arithmetic<T>(from[i]);
    typename Words::Word words[Words::kCount];
    memcpy(words, elements, sizeof(words));
#pragma unroll
    for (int i = 0; i < Words::kCount; ++i) {
        store_word(reinterpret_cast<typename Words::Word*>(to) + i, words[i]);
    }
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
