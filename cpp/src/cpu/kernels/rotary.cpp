// Rotates pairs of a head's elements by the angle of their position (Su et al. 2021):
//   out_a = a cos - b sin,  out_b = a sin + b cos,  pairs (a, b) at (i, i + rotary_dim / 2), or
//   (2i, 2i + 1) when interleaved; `inverse` negates the sine.
//
// Bytes per element: one read and one write; a token's cosines and sines serve all its heads from
// cache. Tokens are split over threads; each pair is computed alone. Positions are checked before
// anything is written. For interleaved pairs the token's tables are spread once to (c, c) and (-s,
// s), so that a vector is rotated by its own values and its pair-swapped values.
#include "kernels/compute_dtype.h"
#include "kernels/index_range.h"
#include "kernels/register.h"
#include "memory/scratch.h"
#include "simd/row_loop.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class A, class T>
void rotate_halves(const T* x, const A* cosines, const A* sines, std::int64_t half, T* out) {
    for_each_vector<A>(half, [&](std::int64_t i, auto lanes) {
        const Vec<A> c = load<A>(cosines + i, lanes), s = load<A>(sines + i, lanes);
        const Vec<A> a = load<A>(x + i, lanes), b = load<A>(x + half + i, lanes);
        store<A>(out + i, a * c - b * s, lanes);
        store<A>(out + half + i, a * s + b * c, lanes);
    });
}

inline VecFloat swap_pairs(VecFloat v) {
    typedef std::uint64_t VecUint64 __attribute__((vector_size(kVectorBytes)));
    const VecUint64 pairs = vec_cast<VecUint64>(v);
    return vec_cast<VecFloat>((pairs << 32) | (pairs >> 32));
}
[[maybe_unused]] inline VecDouble swap_pairs(VecDouble v) {
    double lanes[kLanes<double>];
    std::memcpy(lanes, &v, sizeof(v));
    for (int i = 0; i < kLanes<double>; i += 2) {
        const double first = lanes[i];
        lanes[i] = lanes[i + 1];
        lanes[i + 1] = first;
    }
    std::memcpy(&v, lanes, sizeof(v));
    return v;
}

// cosines (c, c), sines (-s, s), spread over rotary_dim elements.
template <class A, class T>
void rotate_pairs(const T* x, const A* cosines, const A* sines, std::int64_t rotary_dim, T* out) {
    for_each_vector<A>(rotary_dim, [&](std::int64_t i, auto lanes) {
        const Vec<A> v = load<A>(x + i, lanes);
        const Vec<A> rotated =
            v * load<A>(cosines + i, lanes) + swap_pairs(v) * load<A>(sines + i, lanes);
        store<A>(out + i, rotated, lanes);
    });
}

// The token's tables in arithmetic type, with the sign of the direction.
template <class A>
void prepare_tables(const float* cosines, const float* sines, std::int64_t half, bool interleaved,
                    bool inverse, A* token_cosines, A* token_sines) {
    for (std::int64_t i = 0; i < half; ++i) {
        const A c = static_cast<A>(cosines[i]);
        const A s = static_cast<A>(inverse ? -sines[i] : sines[i]);
        if (interleaved) {
            token_cosines[2 * i] = token_cosines[2 * i + 1] = c;
            token_sines[2 * i] = -s;
            token_sines[2 * i + 1] = s;
        } else {
            token_cosines[i] = c;
            token_sines[i] = s;
        }
    }
}

template <class T>
KernelStatus rotary_tokens(const TensorView& x, const TensorView& positions,
                           const TensorView& cosines, const TensorView& sines, bool interleaved,
                           bool inverse, const TensorView& out) {
    using A = Arithmetic<T>;
    const std::int64_t tokens = x.size(0), heads = x.size(1), head_dim = x.size(2);
    const std::int64_t half = cosines.size(1), rotary_dim = 2 * half;
    if (!indices_in_range(positions, cosines.size(0))) return kKernelIndexOutOfRange;
    bool failed = false;
    parallel_for(
        tokens, rows_per_chunk(heads * head_dim), [&](std::int64_t begin, std::int64_t end) {
            const Scratch scratch(2 * rotary_dim * static_cast<std::int64_t>(sizeof(A)));
            if (!scratch.ok()) {
                __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
                return;
            }
            A* const token_cosines = scratch.as<A>();
            A* const token_sines = token_cosines + rotary_dim;
            for (std::int64_t token = begin; token < end; ++token) {
                const std::int64_t position = index_at(positions, token);
                prepare_tables<A>(cosines.as<float>() + position * cosines.stride(0),
                                  sines.as<float>() + position * sines.stride(0), half, interleaved,
                                  inverse, token_cosines, token_sines);
                for (std::int64_t head = 0; head < heads; ++head) {
                    const T* in = x.as<T>() + token * x.stride(0) + head * x.stride(1);
                    T* to = out.as<T>() + token * out.stride(0) + head * out.stride(1);
                    if (interleaved) {
                        rotate_pairs<A>(in, token_cosines, token_sines, rotary_dim, to);
                    } else {
                        rotate_halves<A>(in, token_cosines, token_sines, half, to);
                    }
                    if (in == to) continue;
                    for_each_vector<A>(head_dim - rotary_dim, [&](std::int64_t i, auto lanes) {
                        store<A>(to + rotary_dim + i, load<A>(in + rotary_dim + i, lanes), lanes);
                    });
                }
            }
        });
    return failed ? kKernelOutOfMemory : kKernelOk;
}

KernelStatus rotary(const KernelContext&, const TensorView& x, const TensorView& positions,
                    const TensorView& cosines, const TensorView& sines, std::int32_t interleaved,
                    std::int32_t inverse, const TensorView& out) {
    return with_compute_dtype(x.dtype, [&](auto tag) {
        return rotary_tokens<typename decltype(tag)::type>(x, positions, cosines, sines,
                                                           interleaved != 0, inverse != 0, out);
    });
}

}  // namespace

void register_rotary(KernelTable& table) { table.rotary = rotary; }

}  // namespace tempra::cpu::TEMPRA_ISA
