// Matrix products with any strides, dtypes and epilogue: what cuBLASLt has no algorithm for. Not
// fast, and not meant to be.
//
// Bytes moved: each operand once per tile of 64 rows or columns of the other. Thread-to-data: a
// block makes a tile of 64 x 64 of c, 16 x 16 threads with 4 x 4 sums each; slices of 16 along k go
// through shared memory as fp32. An fp32 b beside a 16-bit a is rounded to that. Deterministic:
// each sum runs along k in order.
#include "element_map.cuh"
#include "gemm_finish.cuh"
#include "gemm_parts.h"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kTile = 64, kSlice = 16, kSide = 16, kEach = 4;
constexpr int kThreads = kSide * kSide;

struct Strided {
    const void* data;
    std::int64_t batch, row, column;
};

struct GeneralProduct {
    Strided a, b;
    std::int64_t m, n, k, tiles_m, tiles_n;
};

// `To` is the type of what it is multiplied by.
template <class From, class To>
__device__ __forceinline__ float operand_at(const Strided& s, std::int64_t batch, std::int64_t row,
                                            std::int64_t column) {
    const From x =
        static_cast<const From*>(s.data)[batch * s.batch + row * s.row + column * s.column];
    return to_arithmetic(from_arithmetic<To>(to_arithmetic(x)));
}

template <class A, class B, class C>
__global__ void __launch_bounds__(kThreads)
    multiply_tiles(const __grid_constant__ GeneralProduct p,
                   const __grid_constant__ GemmEpilogue<C> epilogue) {
    __shared__ float a_slice[kSlice][kTile + 1], b_slice[kSlice][kTile + 1];
    std::int64_t tile = blockIdx.x;
    const std::int64_t tile_n = tile % p.tiles_n;
    tile /= p.tiles_n;
    const std::int64_t tile_m = tile % p.tiles_m, batch = tile / p.tiles_m;
    const std::int64_t first_row = tile_m * kTile, first_column = tile_n * kTile;
    const int thread = static_cast<int>(threadIdx.x);
    const int x = thread % kSide, y = thread / kSide;
    float sums[kEach][kEach] = {};
    for (std::int64_t begin = 0; begin < p.k; begin += kSlice) {
        for (int i = thread; i < kTile * kSlice; i += kThreads) {
            // Neighbouring threads read neighbours along the dimension of stride 1.
            const bool a_along_k = p.a.column == 1, b_along_k = p.b.row == 1;
            const int a_k = a_along_k ? i % kSlice : i / kTile;
            const int a_row = a_along_k ? i / kSlice : i % kTile;
            const int b_k = b_along_k ? i % kSlice : i / kTile;
            const int b_column = b_along_k ? i / kSlice : i % kTile;
            const bool has_a = begin + a_k < p.k && first_row + a_row < p.m;
            const bool has_b = begin + b_k < p.k && first_column + b_column < p.n;
            a_slice[a_k][a_row] =
                has_a ? operand_at<A, A>(p.a, batch, first_row + a_row, begin + a_k) : 0.0F;
            b_slice[b_k][b_column] =
                has_b ? operand_at<B, A>(p.b, batch, begin + b_k, first_column + b_column) : 0.0F;
        }
        __syncthreads();
        for (int k = 0; k < kSlice; ++k) {
#pragma unroll
            for (int i = 0; i < kEach; ++i) {
#pragma unroll
                for (int j = 0; j < kEach; ++j) {
                    sums[i][j] += a_slice[k][y + kSide * i] * b_slice[k][x + kSide * j];
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
            const std::int64_t row = first_row + y + kSide * i;
            const std::int64_t column = first_column + x + kSide * j;
            if (row < p.m && column < p.n) epilogue.finish(sums[i][j], batch, row, column);
        }
    }
}

Strided strided_of(const TensorView& view) {
    return {view.data, view.dimensions == 3 ? view.strides[0] : 0, view.stride(-2),
            view.stride(-1)};
}

template <class A, class B, class C>
KernelStatus launch(const KernelContext& context, const GemmArguments& g) {
    GeneralProduct p{
        strided_of(g.a), strided_of(g.b), g.c.size(-2), g.c.size(-1), g.a.size(-1), 0, 0};
    p.tiles_m = divide_up(p.m, kTile);
    p.tiles_n = divide_up(p.n, kTile);
    const std::int64_t batches = g.c.dimensions == 3 ? g.c.sizes[0] : 1;
    const std::int64_t blocks = grid_for(p.tiles_m * p.tiles_n * batches, 1);
    const KernelStatus status = check_launch("gemm", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    multiply_tiles<A, B, C>
        <<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
            p, gemm_epilogue_of<C>(g));
    return finish_launch("gemm: general", context.stream);
}

}  // namespace

KernelStatus multiply_generally(const KernelContext& context, const GemmArguments& g) {
    if (g.a.dtype == DType::f32) return launch<float, float, float>(context, g);
    const bool rounds = g.b.dtype == DType::f32;
    return with_half_dtype(g.a.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (g.c.dtype == DType::f32) {
            return rounds ? launch<T, float, float>(context, g) : launch<T, T, float>(context, g);
        }
        return rounds ? launch<T, float, T>(context, g) : launch<T, T, T>(context, g);
    });
}

}  // namespace tempra::cuda
