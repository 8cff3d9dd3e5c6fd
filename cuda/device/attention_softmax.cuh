// The softmax of scores that come a block at a time, in powers of two: running maximum and sum
// (M. Milakov, N. Gimelshein 2018).
#pragma once

#include <cuda_runtime.h>

namespace tempra::cuda {

inline constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;
inline constexpr float kNothing = -__builtin_inff();  // the score of what is not seen

// Rows group and group + 8 of the warp's 16.
struct RunningSoftmax {
    float largest[2] = {kNothing, kNothing}, sum[2] = {0, 0};

    // Turns a block's scores into weights, and multiplies the sums of earlier blocks to fit.
    template <int kColumns, int kSums>
    __device__ __forceinline__ void weigh(float (&scores)[kColumns][4], float (&sums)[kSums][4]) {
        float shrink[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float most = largest[half];
#pragma unroll
            for (int n = 0; n < kColumns; ++n) {
                most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
            }
            most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFU, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFU, most, 2));
            const float shift = most == kNothing ? 0.0F : most;  // nothing is visible yet
            shrink[half] = exp2f(largest[half] - shift);
            largest[half] = most;
            sum[half] *= shrink[half];
#pragma unroll
            for (int n = 0; n < kColumns; ++n) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float& score = scores[n][2 * half + i];
                    score = exp2f(score - shift);
                    sum[half] += score;
                }
            }
        }
#pragma unroll
        for (int n = 0; n < kSums; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[n][i] *= shrink[i / 2];
        }
    }
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += __shfl_xor_sync(0xFFFFFFFFU, sum[half], 1);
            sum[half] += __shfl_xor_sync(0xFFFFFFFFU, sum[half], 2);
        }
    }
};

}  // namespace tempra::cuda
