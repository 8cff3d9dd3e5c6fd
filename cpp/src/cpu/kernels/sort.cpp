// values, indices = the first k elements of a stable sort along one dimension; NaN is the largest.
//
// Each element becomes an unsigned key whose order is the wanted one (signs flipped, -0 equal to 0,
// NaN above infinity, all bits inverted for descending order). Lines are sorted by a least
// significant digit first radix sort of (key, index), bytes in which all keys agree skipped; short
// ones by insertion. For k well below the line's length, a histogram of the leading 11 bits leaves
// only elements that can be among the first k, in order of position.
//
// Bytes moved: in once, 16 bytes (24 for 64-bit keys) per element and digit, from cache for lines
// up to some ten thousand elements. Mapping: lines over threads. Deterministic: stable.
#include <cstring>

#include "kernels/line_nest.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kInsertionLength = 48;
constexpr int kLeadingBits = 11;

template <class T>
struct SortKey {  // f32 and bf16, through float
    using type = std::uint32_t;
    static type of(T value) {
        const float x = to_arithmetic(value);
        std::uint32_t raw;
        std::memcpy(&raw, &x, sizeof(raw));
        if (x != x) return 0xFFFF0000U;
        if (x == 0) raw = 0;
        return raw ^ ((raw >> 31) != 0 ? 0xFFFFFFFFU : 0x80000000U);
    }
};
#if defined(TEMPRA_ISA_IS_baseline)
template <>
struct SortKey<double> {
    using type = std::uint64_t;
    static type of(double x) {
        std::uint64_t raw;
        std::memcpy(&raw, &x, sizeof(raw));
        if (x != x) return ~std::uint64_t{0};
        if (x == 0) raw = 0;
        return raw ^ ((raw >> 63) != 0 ? ~std::uint64_t{0} : std::uint64_t{1} << 63);
    }
};
template <>
struct SortKey<std::int64_t> {
    using type = std::uint64_t;
    static type of(std::int64_t x) {
        return static_cast<std::uint64_t>(x) ^ (std::uint64_t{1} << 63);
    }
};
template <>
struct SortKey<std::int32_t> {
    using type = std::uint32_t;
    static type of(std::int32_t x) { return static_cast<std::uint32_t>(x) ^ 0x80000000U; }
};
#endif

// Keys and positions, each twice: radix passes go back and forth.
template <class Key>
struct Buffers {
    Key* keys;
    Key* other_keys;
    std::uint32_t* positions;
    std::uint32_t* other_positions;

    static std::int64_t bytes(std::int64_t n) {
        return n * 2 * static_cast<std::int64_t>(sizeof(Key) + sizeof(std::uint32_t));
    }
    Buffers(char* memory, std::int64_t n)
        : keys(reinterpret_cast<Key*>(memory)),
          other_keys(keys + n),
          positions(reinterpret_cast<std::uint32_t*>(other_keys + n)),
          other_positions(positions + n) {}
    void exchange() {
        Key* const k = keys;
        keys = other_keys;
        other_keys = k;
        std::uint32_t* const p = positions;
        positions = other_positions;
        other_positions = p;
    }
};

template <class Key>
void insertion_sort(Buffers<Key>& buffers, std::int64_t n) {
    for (std::int64_t i = 1; i < n; ++i) {
        const Key key = buffers.keys[i];
        const std::uint32_t position = buffers.positions[i];
        std::int64_t j = i;
        for (; j > 0 && buffers.keys[j - 1] > key; --j) {
            buffers.keys[j] = buffers.keys[j - 1];
            buffers.positions[j] = buffers.positions[j - 1];
        }
        buffers.keys[j] = key;
        buffers.positions[j] = position;
    }
}

template <class Key>
void radix_sort(Buffers<Key>& buffers, std::int64_t n) {
    constexpr int kDigits = sizeof(Key);
    std::uint32_t counts[kDigits][256] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        for (int digit = 0; digit < kDigits; ++digit) {
            ++counts[digit][(buffers.keys[i] >> (8 * digit)) & 0xFF];
        }
    }
    for (int digit = 0; digit < kDigits; ++digit) {
        std::uint32_t* starts = counts[digit];
        if (starts[(buffers.keys[0] >> (8 * digit)) & 0xFF] == static_cast<std::uint32_t>(n))
            continue;
        std::uint32_t sum = 0;
        for (int b = 0; b < 256; ++b) {
            const std::uint32_t count = starts[b];
            starts[b] = sum;
            sum += count;
        }
        for (std::int64_t i = 0; i < n; ++i) {
            const Key key = buffers.keys[i];
            const std::uint32_t to = starts[(key >> (8 * digit)) & 0xFF]++;
            buffers.other_keys[to] = key;
            buffers.other_positions[to] = buffers.positions[i];
        }
        buffers.exchange();
    }
}

// Drops elements that cannot be among the first k; returns how many stay.
template <class Key>
std::int64_t select_candidates(Buffers<Key>& buffers, std::int64_t n, std::int64_t k) {
    constexpr int kShift = static_cast<int>(sizeof(Key)) * 8 - kLeadingBits;
    std::uint32_t counts[1 << kLeadingBits] = {};
    for (std::int64_t i = 0; i < n; ++i) ++counts[buffers.keys[i] >> kShift];
    std::int64_t below = 0;
    Key last = 0;
    for (; below + counts[last] < k; ++last) below += counts[last];
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const Key key = buffers.keys[i];
        buffers.keys[kept] = key;
        buffers.positions[kept] = static_cast<std::uint32_t>(i);
        kept += (key >> kShift) <= last;
    }
    return kept;
}

template <class T>
KernelStatus sort_typed(const TensorView& in, int dimension, bool descending,
                        const TensorView& values, const TensorView& indices) {
    using Key = typename SortKey<T>::type;
    const TensorView* const views[] = {&in, &values, &indices};
    const LineNest nest = make_line_nest(views, 3, dimension);
    const std::int64_t n = dimension < 0 ? 1 : in.sizes[dimension];
    const std::int64_t k = dimension < 0 ? 1 : values.sizes[dimension];
    if (n == 0 || k == 0 || nest.count == 0) return kKernelOk;
    if (n > INT64_C(0xFFFFFFFF)) return kKernelFailed;  // positions are kept in 32 bits
    const std::int64_t in_stride = dimension < 0 ? 1 : in.strides[dimension];
    const std::int64_t value_stride = dimension < 0 ? 1 : values.strides[dimension];
    const std::int64_t index_stride = dimension < 0 ? 1 : indices.strides[dimension];
    const Key flip = descending ? static_cast<Key>(~Key{0}) : Key{0};
    int out_of_memory = 0;
    parallel_for(nest.count, lines_per_chunk(8 * n), [&](std::int64_t begin, std::int64_t end) {
        const Scratch scratch(Buffers<Key>::bytes(n));
        if (!scratch.ok()) {
            __atomic_store_n(&out_of_memory, 1, __ATOMIC_RELAXED);
            return;
        }
        for (std::int64_t line = begin; line < end; ++line) {
            std::int64_t offset[LineNest::kMaxOperands];
            nest.offsets(line, offset);
            const T* data = in.as<T>() + offset[0];
            Buffers<Key> buffers(scratch.as<char>(), n);
            for (std::int64_t i = 0; i < n; ++i) {
                buffers.keys[i] = SortKey<T>::of(data[i * in_stride]) ^ flip;
                buffers.positions[i] = static_cast<std::uint32_t>(i);
            }
            const bool selects = k < n / 4 && n >= 1024;
            const std::int64_t candidates = selects ? select_candidates(buffers, n, k) : n;
            if (candidates <= kInsertionLength) {
                insertion_sort(buffers, candidates);
            } else {
                radix_sort(buffers, candidates);
            }
            for (std::int64_t i = 0; i < k; ++i) {
                const std::int64_t position = buffers.positions[i];
                values.as<T>()[offset[1] + i * value_stride] = data[position * in_stride];
                indices.as<std::int64_t>()[offset[2] + i * index_stride] = position;
            }
        }
    });
    return out_of_memory == 0 ? kKernelOk : kKernelOutOfMemory;
}

KernelStatus sort(const KernelContext&, const TensorView& in, std::int32_t dimension,
                  std::int32_t descending, const TensorView& values, const TensorView& indices) {
    if (in.dimensions == 0) dimension = -1;
    if (values.dtype != in.dtype || indices.dtype != DType::i64) return kKernelUnsupportedDtype;
    const bool down = descending != 0;
    switch (in.dtype) {
        case DType::f32: return sort_typed<float>(in, dimension, down, values, indices);
        case DType::bf16: return sort_typed<bfloat16>(in, dimension, down, values, indices);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return sort_typed<double>(in, dimension, down, values, indices);
        case DType::i64: return sort_typed<std::int64_t>(in, dimension, down, values, indices);
        case DType::i32: return sort_typed<std::int32_t>(in, dimension, down, values, indices);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_sort(KernelTable& table) { table.sort = sort; }

}  // namespace tempra::cpu::TEMPRA_ISA
