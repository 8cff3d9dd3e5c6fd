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
// Bytes moved: out once (and in once). Thread-to-data: one thread per four elements of a row, the
// words of one counter; accessed as a pack where rows are aligned. Deterministic: every element is
// a function of its counter alone.
//
// J. Salmon et al.: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). G. Box, M. Muller: A
// note on the generation of random normal deviates (1958).
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "random/philox.h"
#include "random_range.h"

namespace tempra::cuda {

namespace {

struct Quads {
    std::int64_t rows, columns, quads_per_row;
    PhiloxKey key;
};

__device__ __forceinline__ bool quad_of_thread(const Quads& quads, std::int64_t& row,
                                               std::int64_t& column, PhiloxBlock& block) {
    const std::int64_t quad = thread_number();
    if (quad >= quads.rows * quads.quads_per_row) return false;
    row = quad / quads.quads_per_row;
    column = (quad - row * quads.quads_per_row) * 4;
    block = philox_block(quads.key.seed, quads.key.step, quads.key.ordinal,
                         quads.key.row_offset + static_cast<std::uint32_t>(row),
                         static_cast<std::uint32_t>(column / 4));
    return true;
}

__device__ __forceinline__ int elements_left(std::int64_t columns, std::int64_t column) {
    return columns - column < 4 ? static_cast<int>(columns - column) : 4;
}

struct Uniform {
    float a, width, limit;  // `limit`: infinity where there is none

    template <class T>
    __device__ __forceinline__ void draw(const PhiloxBlock& block, float (&values)[4]) const {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            // Not contracted into a fused multiply-add: the CPU's is not either.
            float v = __fadd_rn(a, __fmul_rn(width, philox_uniform(block.words[k])));
            v = to_arithmetic(from_arithmetic<T>(v));  // what the store will round to
            values[k] = v > limit ? limit : v;
        }
    }
};

struct Normal {
    float mean, deviation;

    template <class T>
    __device__ __forceinline__ void draw(const PhiloxBlock& block, float (&values)[4]) const {
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
            const float first = philox_uniform(block.words[k]) + 0x1p-24F;  // in (0, 1]
            const float radius = sqrtf(-2.0F * logf(first));
            float sine, cosine;
            sincospif(2.0F * philox_uniform(block.words[k + 1]), &sine, &cosine);
            values[k] = mean + deviation * (radius * cosine);
            values[k + 1] = mean + deviation * (radius * sine);
        }
    }
};

template <class T, class Distribution>
__global__ void __launch_bounds__(kElementwiseThreads)
    draw_quads(const Quads quads, T* out, bool aligned, const Distribution distribution) {
    std::int64_t row, column;
    PhiloxBlock block;
    if (!quad_of_thread(quads, row, column, block)) return;
    float values[4];
    distribution.template draw<T>(block, values);
    T* const to = out + row * quads.columns + column;
    const int count = elements_left(quads.columns, column);
    if (aligned && count == 4) {
        store_whole<T, 4>(values, to);
    } else {
        store_first<T, 4>(values, count, to);
    }
}

struct DropoutRule {
    std::uint32_t threshold;
    bool drops_all;
    float scale;
};

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    drop_quads(const Quads quads, const T* in, std::int64_t in_stride, T* out,
               std::int64_t out_stride, bool aligned, const DropoutRule rule) {
    std::int64_t row, column;
    PhiloxBlock block;
    if (!quad_of_thread(quads, row, column, block)) return;
    const int count = elements_left(quads.columns, column);
    const T* const from = in + row * in_stride + column;
    T* const to = out + row * out_stride + column;
    const bool whole = aligned && count == 4;
    float v[4];
    if (whole) {
        load_whole<T, 4>(from, v);
    } else {
        load_first<T, 4>(from, count, 0.0F, v);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const bool keep = !rule.drops_all && block.words[k] >= rule.threshold;
        v[k] = keep ? v[k] * rule.scale : 0.0F;
    }
    if (whole) {
        store_whole<T, 4>(v, to);
    } else {
        store_first<T, 4>(v, count, to);
    }
}

Quads quads_of(std::int64_t rows, std::int64_t columns, const PhiloxKey& key) {
    return {rows, columns, divide_up(columns, 4), key};
}

// Whether packs of four elements at multiples of four are aligned in every row.
bool quads_are_aligned(const void* data, std::int64_t row_stride, DType dtype) {
    return reinterpret_cast<std::uintptr_t>(data) % (4 * static_cast<unsigned>(size_of(dtype))) ==
               0 &&
           row_stride % 4 == 0;
}

KernelStatus random_fill(const KernelContext& context, RandomDistribution distribution, double a,
                         double b, const PhiloxKey& key, const TensorView& out) {
    if (!out.is_contiguous())
        return fail(kKernelFailed, "random_fill: a contiguous tensor is needed");
    const std::int64_t rows = out.dimensions > 1 ? out.sizes[0] : 1;
    const std::int64_t columns = rows == 0 ? 0 : out.numel() / rows;
    const Quads quads = quads_of(rows, columns, key);
    const std::int64_t blocks = grid_for(rows * quads.quads_per_row, kElementwiseThreads);
    const KernelStatus status = check_launch("random_fill", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool aligned = quads_are_aligned(out.data, columns, out.dtype);
        const auto launch = [&](auto kernel, const auto& law) {
            kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                     static_cast<cudaStream_t>(context.stream)>>>(quads, out.as<T>(), aligned, law);
        };
        if (distribution == RandomDistribution::uniform) {
            const float limit =
                b > a ? largest_below(b, out.dtype == DType::bf16) : __builtin_inff();
            launch(draw_quads<T, Uniform>,
                   Uniform{static_cast<float>(a), static_cast<float>(b - a), limit});
        } else {
            launch(draw_quads<T, Normal>, Normal{static_cast<float>(a), static_cast<float>(b)});
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
    const Quads quads = quads_of(in.size(0), in.size(1), key);
    const std::int64_t blocks = grid_for(quads.rows * quads.quads_per_row, kElementwiseThreads);
    const KernelStatus status = check_launch("dropout", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const DropoutRule rule = {philox_drop_threshold(probability), probability >= 1,
                              static_cast<float>(1.0 / (1.0 - probability))};
    return with_compute_dtype(in.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool aligned = quads_are_aligned(in.data, in.stride(0), in.dtype) &&
                             quads_are_aligned(out.data, out.stride(0), out.dtype);
        drop_quads<T><<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                        static_cast<cudaStream_t>(context.stream)>>>(
            quads, in.as<const T>(), in.stride(0), out.as<T>(), out.stride(0), aligned, rule);
        return finish_launch("dropout", context.stream);
    });
}

}  // namespace

void register_random(KernelTable& table) {
    table.random_fill = random_fill;
    table.dropout = dropout;
}

}  // namespace tempra::cuda
