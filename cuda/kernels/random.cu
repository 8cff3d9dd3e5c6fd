// Uniform and normal numbers and dropout from Philox4x32-10 counters (random/philox.h, the CPU's
// own header: the same words for the same key, row and element).
//
//   uniform   a + (b - a) * u, u of 24 bits, below b: the CPU's numbers bit for bit
//   normal    a + b * z by Box-Muller: z0, z1 = sqrt(-2 ln u0) * (cos, sin)(2 pi u1): the CPU's
//   words,
//             but CUDA's logarithm, sine and cosine, so the last bits may differ
//   dropout   in * keep / (1 - probability), keep where the element's word >= the threshold: the
//             CPU's mask bit for bit
//
// Bytes moved: out once (and in once). Thread-to-data: one thread per 16 bytes of a row, the words
// of one counter or two; accessed as a pack where rows are aligned. Deterministic: every element is
// a function of its counter alone.
//
// J. Salmon et al.: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). G. Box, M. Muller: A
// note on the generation of random normal deviates (1958).
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "philox_position.cuh"
#include "random_range.h"

namespace tempra::cuda {

namespace {

// Packs of kPack elements, a multiple of four.
struct Packs {
    std::int64_t rows, columns, packs_per_row;
    PhiloxKey key;

    template <int kPack>
    __device__ __forceinline__ bool of_thread(std::int64_t& row, std::int64_t& column,
                                              std::uint32_t (&words)[kPack]) const {
        const std::int64_t pack = thread_number();
        if (pack >= rows * packs_per_row) return false;
        row = pack / packs_per_row;
        column = (pack - row * packs_per_row) * kPack;
#pragma unroll
        for (int k = 0; k < kPack; k += 4) {
            const PhiloxBlock block =
                philox_at(key, row, static_cast<std::uint32_t>((column + k) / 4));
#pragma unroll
            for (int i = 0; i < 4; ++i) words[k + i] = block.words[i];
        }
        return true;
    }
};

template <int kPack>
__device__ __forceinline__ int elements_left(std::int64_t columns, std::int64_t column) {
    return columns - column < kPack ? static_cast<int>(columns - column) : kPack;
}

struct Uniform {
    float a, width, limit;  // `limit`: infinity where there is none

    template <class T, int kPack>
    __device__ __forceinline__ void draw(const std::uint32_t (&words)[kPack],
                                         float (&values)[kPack]) const {
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
            // Not contracted into a fused multiply-add: the CPU's is not either.
            float v = __fadd_rn(a, __fmul_rn(width, philox_uniform(words[k])));
            v = to_arithmetic(from_arithmetic<T>(v));  // what the store will round to
            values[k] = v > limit ? limit : v;
        }
    }
};

struct Normal {
    float mean, deviation;

    template <class T, int kPack>
    __device__ __forceinline__ void draw(const std::uint32_t (&words)[kPack],
                                         float (&values)[kPack]) const {
#pragma unroll
        for (int k = 0; k < kPack; k += 2) {
            const float first = philox_uniform(words[k]) + 0x1p-24F;  // in (0, 1]
            const float radius = sqrtf(-2.0F * logf(first));
            float sine, cosine;
            sincospif(2.0F * philox_uniform(words[k + 1]), &sine, &cosine);
            values[k] = mean + deviation * (radius * cosine);
            values[k + 1] = mean + deviation * (radius * sine);
        }
    }
};

template <class T, class Distribution>
__global__ void __launch_bounds__(kElementwiseThreads)
    draw_packs(const Packs packs, T* out, bool aligned, const Distribution distribution) {
    constexpr int kPack = kPackOf<T>;
    std::int64_t row, column;
    std::uint32_t words[kPack];
    if (!packs.of_thread(row, column, words)) return;
    float values[kPack];
    distribution.template draw<T>(words, values);
    T* const to = out + row * packs.columns + column;
    const int count = elements_left<kPack>(packs.columns, column);
    if (aligned && count == kPack) {
        store_whole<T, kPack>(values, to);
    } else {
        store_first<T, kPack>(values, count, to);
    }
}

struct DropoutRule {
    std::uint32_t threshold;
    bool drops_all;
    float scale;
};

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    drop_packs(const Packs packs, const T* in, std::int64_t in_stride, T* out,
               std::int64_t out_stride, bool aligned, const DropoutRule rule) {
    constexpr int kPack = kPackOf<T>;
    std::int64_t row, column;
    std::uint32_t words[kPack];
    if (!packs.of_thread(row, column, words)) return;
    const int count = elements_left<kPack>(packs.columns, column);
    const T* const from = in + row * in_stride + column;
    T* const to = out + row * out_stride + column;
    const bool whole = aligned && count == kPack;
    float v[kPack];
    if (whole) {
        load_whole<T, kPack>(from, v);
    } else {
        load_first<T, kPack>(from, count, 0.0F, v);
    }
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
        const bool keep = !rule.drops_all && words[k] >= rule.threshold;
        v[k] = keep ? v[k] * rule.scale : 0.0F;
    }
    if (whole) {
        store_whole<T, kPack>(v, to);
    } else {
        store_first<T, kPack>(v, count, to);
    }
}

Packs packs_of(std::int64_t rows, std::int64_t columns, const PhiloxKey& key, DType dtype) {
    return {rows, columns, divide_up(columns, kPackBytes / size_of(dtype)), key};
}

// Whether packs of 16 bytes at multiples of 16 are aligned in every row.
bool packs_are_aligned(const void* data, std::int64_t row_stride, DType dtype) {
    return reinterpret_cast<std::uintptr_t>(data) % kPackBytes == 0 &&
           row_stride * size_of(dtype) % kPackBytes == 0;
}

KernelStatus random_fill(const KernelContext& context, RandomDistribution distribution, double a,
                         double b, const PhiloxKey& key, const TensorView& out) {
    if (!out.is_contiguous())
        return fail(kKernelFailed, "random_fill: a contiguous tensor is needed");
    const std::int64_t rows = out.dimensions > 1 ? out.sizes[0] : 1;
    const std::int64_t columns = rows == 0 ? 0 : out.numel() / rows;
    const Packs packs = packs_of(rows, columns, key, out.dtype);
    const std::int64_t blocks = grid_for(rows * packs.packs_per_row, kElementwiseThreads);
    const KernelStatus status = check_launch("random_fill", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool aligned = packs_are_aligned(out.data, columns, out.dtype);
        const auto launch = [&](auto kernel, const auto& law) {
            kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                     static_cast<cudaStream_t>(context.stream)>>>(packs, out.as<T>(), aligned, law);
        };
        if (distribution == RandomDistribution::uniform) {
            const float limit = b > a ? largest_below(b, out.dtype) : __builtin_inff();
            launch(draw_packs<T, Uniform>,
                   Uniform{static_cast<float>(a), static_cast<float>(b - a), limit});
        } else {
            launch(draw_packs<T, Normal>, Normal{static_cast<float>(a), static_cast<float>(b)});
        }
        return finish_launch("random_fill", context.stream);
    });
}

KernelStatus dropout(const KernelContext& context, const TensorView& in, double probability,
                     const PhiloxKey& key, const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    if (in.dimensions != 2 || !(probability >= 0 && probability <= 1)) {
        return fail(kKernelFailed, "dropout: a matrix and a probability in [0, 1] are needed");
    }
    if (in.numel() > 0 && (in.stride(1) != 1 || out.stride(1) != 1)) {
        return fail(kKernelFailed, "dropout: rows of unit stride are needed");
    }
    const Packs packs = packs_of(in.size(0), in.size(1), key, in.dtype);
    const std::int64_t blocks = grid_for(packs.rows * packs.packs_per_row, kElementwiseThreads);
    const KernelStatus status = check_launch("dropout", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const DropoutRule rule = {philox_drop_threshold(probability), probability >= 1,
                              static_cast<float>(1.0 / (1.0 - probability))};
    return with_compute_dtype(in.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool aligned = packs_are_aligned(in.data, in.stride(0), in.dtype) &&
                             packs_are_aligned(out.data, out.stride(0), out.dtype);
        drop_packs<T><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                        static_cast<cudaStream_t>(context.stream)>>>(
            packs, in.as<const T>(), in.stride(0), out.as<T>(), out.stride(0), aligned, rule);
        return finish_launch("dropout", context.stream);
    });
}

}  // namespace

void register_random(KernelTable& table) {
    table.random_fill = random_fill;
    table.dropout = dropout;
}

}  // namespace tempra::cuda
