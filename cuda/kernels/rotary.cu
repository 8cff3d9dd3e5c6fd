// Rotates pairs of a head's elements by the angle of their position (Su et al. 2021):
//   out_a = a cos - b sin,  out_b = a sin + b cos,  pairs (a, b) at (i, i + rotary_dim / 2), or
//   (2i, 2i + 1) when interleaved; `inverse` negates the sine. Elements past rotary_dim are copied.
//
// Bytes moved per element: one read and one write; a token's cosines and sines serve all its heads
// from cache. Thread-to-data: a thread per pack of up to 16 bytes of one side of the pairs of a
// head (per two packs, interleaved), element by element where heads are not aligned. A pair is read
// and written by one thread, so `out` may be `x`. Deterministic: every pair is computed alone. A
// position outside the tables leaves a fault for `stream_synchronize`, and its rows as they are.
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "row_shape.h"

namespace tempra::cuda {

namespace {

struct Rotation {
    const void* positions;
    std::int64_t position_stride;
    const float *cosines, *sines;
    std::int64_t cosine_stride, sine_stride, table_rows;
    std::int64_t tokens, heads, half, rest;
    std::int64_t x_row, x_head, out_row, out_head;
    float direction;
    bool positions_are_wide, interleaved, copies_rest, tables_are_aligned;
    std::int32_t* fault;
};

// Of kPack pairs from pair i on; the sine with its direction.
template <int kPack>
__device__ __forceinline__ void load_angles(const Rotation& p, const float* cosines,
                                            const float* sines, std::int64_t i, float (&c)[kPack],
                                            float (&s)[kPack]) {
    if (kPack > 1 && p.tables_are_aligned) {
        load_whole<float, kPack>(cosines + i, c);
        load_whole<float, kPack>(sines + i, s);
    } else {
        load_first<float, kPack>(cosines + i, kPack, 0.0F, c);
        load_first<float, kPack>(sines + i, kPack, 0.0F, s);
    }
#pragma unroll
    for (int k = 0; k < kPack; ++k) s[k] *= p.direction;
}

__device__ __forceinline__ void rotate(float& a, float& b, float cosine, float sine) {
    const float first = a, second = b;
    a = first * cosine - second * sine;
    b = first * sine + second * cosine;
}

template <class T, int kPack>
__device__ __forceinline__ void rotate_halves(const Rotation& p, const T* x, const float* cosines,
                                              const float* sines, std::int64_t i, T* out) {
    float a[kPack], b[kPack], c[kPack], s[kPack];
    load_angles<kPack>(p, cosines, sines, i, c, s);
    load_whole<T, kPack>(x + i, a);
    load_whole<T, kPack>(x + p.half + i, b);
#pragma unroll
    for (int k = 0; k < kPack; ++k) rotate(a[k], b[k], c[k], s[k]);
    store_whole<T, kPack>(a, out + i);
    store_whole<T, kPack>(b, out + p.half + i);
}

// Elements 2 i and on. A single pair may lie at any address.
template <class T, int kPack>
__device__ __forceinline__ void rotate_pairs(const Rotation& p, const T* x, const float* cosines,
                                             const float* sines, std::int64_t i, T* out) {
    float pairs[2 * kPack], c[kPack], s[kPack];
    load_angles<kPack>(p, cosines, sines, i, c, s);
    if constexpr (kPack == 1) {
        load_first<T, 2>(x + 2 * i, 2, 0.0F, pairs);
    } else {
        load_whole<T, 2 * kPack>(x + 2 * i, pairs);
    }
#pragma unroll
    for (int k = 0; k < kPack; ++k) rotate(pairs[2 * k], pairs[2 * k + 1], c[k], s[k]);
    if constexpr (kPack == 1) {
        store_first<T, 2>(pairs, 2, out + 2 * i);
    } else {
        store_whole<T, 2 * kPack>(pairs, out + 2 * i);
    }
}

template <class T, int kPack>
__global__ void __launch_bounds__(kElementwiseThreads)
    rotate_heads(const __grid_constant__ Rotation p, const T* x, T* out) {
    const std::int64_t units = p.half / kPack;  // then one for what is copied
    const std::int64_t per_head = units + (p.copies_rest ? 1 : 0);
    const std::int64_t at = thread_number();
    if (at >= p.tokens * p.heads * per_head) return;
    const std::int64_t unit = at % per_head, head = at / per_head % p.heads;
    const std::int64_t token = at / per_head / p.heads;
    const std::int64_t place = token * p.position_stride;
    const std::int64_t position = p.positions_are_wide
                                      ? static_cast<const std::int64_t*>(p.positions)[place]
                                      : static_cast<const std::int32_t*>(p.positions)[place];
    if (position < 0 || position >= p.table_rows) {
        *p.fault = kPositionOutOfRange;
        return;
    }
    const T* const from = x + token * p.x_row + head * p.x_head;
    T* const to = out + token * p.out_row + head * p.out_head;
    if (unit == units) {
        for (std::int64_t i = 2 * p.half; i < 2 * p.half + p.rest; ++i) to[i] = from[i];
        return;
    }
    const float* const cosines = p.cosines + position * p.cosine_stride;
    const float* const sines = p.sines + position * p.sine_stride;
    if (p.interleaved) {
        rotate_pairs<T, kPack>(p, from, cosines, sines, unit * kPack, to);
    } else {
        rotate_halves<T, kPack>(p, from, cosines, sines, unit * kPack, to);
    }
}

bool heads_start_on_packs(const TensorView& view, std::int64_t pack) {
    const auto bytes = static_cast<std::uintptr_t>(pack * size_of(view.dtype));
    return reinterpret_cast<std::uintptr_t>(view.data) % bytes == 0 && view.stride(0) % pack == 0 &&
           view.stride(1) % pack == 0;
}

KernelStatus rotary(const KernelContext& context, const TensorView& x, const TensorView& positions,
                    const TensorView& cosines, const TensorView& sines, std::int32_t interleaved,
                    std::int32_t inverse, const TensorView& out) {
    const bool wide = positions.dtype == DType::i64;
    if (x.dtype != out.dtype || (!wide && positions.dtype != DType::i32)) {
        return kKernelUnsupportedDtype;
    }
    if (cosines.dtype != DType::f32 || sines.dtype != DType::f32) return kKernelUnsupportedDtype;
    KernelStatus status = check_launch("rotary", context, 1);
    if (status != kKernelOk || x.numel() == 0) return status;
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    Rotation p{};
    p.positions = positions.data;
    p.position_stride = positions.stride(0);
    p.positions_are_wide = wide;
    p.cosines = cosines.as<const float>();
    p.sines = sines.as<const float>();
    p.cosine_stride = cosines.stride(0);
    p.sine_stride = sines.stride(0);
    p.table_rows = cosines.size(0);
    p.tokens = x.size(0);
    p.heads = x.size(1);
    p.half = cosines.size(1);
    p.rest = x.size(2) - 2 * p.half;
    p.copies_rest = p.rest > 0 && x.data != out.data;
    p.x_row = x.stride(0);
    p.x_head = x.stride(1);
    p.out_row = out.stride(0);
    p.out_head = out.stride(1);
    p.direction = inverse != 0 ? -1.0F : 1.0F;
    p.interleaved = interleaved != 0;
    p.tables_are_aligned = rows_are_aligned(cosines) && rows_are_aligned(sines);
    p.fault = device->fault;
    return with_compute_dtype(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        constexpr int kWhole = kPackOf<T>;
        const bool packs = p.half % kWhole == 0 && heads_start_on_packs(x, kWhole) &&
                           heads_start_on_packs(out, kWhole);
        const std::int64_t per_head = p.half / (packs ? kWhole : 1) + (p.copies_rest ? 1 : 0);
        const std::int64_t blocks = grid_for(p.tokens * p.heads * per_head, kElementwiseThreads);
        const KernelStatus fits = check_launch("rotary", context, blocks);
        if (fits != kKernelOk || blocks == 0) return fits;
        const auto kernel = packs ? rotate_heads<T, kWhole> : rotate_heads<T, 1>;
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(p, x.as<const T>(), out.as<T>());
        return static_cast<KernelStatus>(finish_launch("rotary", context.stream));
    });
}

}  // namespace

void register_rotary(KernelTable& table) { table.rotary = rotary; }

}  // namespace tempra::cuda
