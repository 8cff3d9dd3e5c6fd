// Warp-wide matrix instructions on bf16 and fp16 tiles in shared memory, and copies into it that
// run by themselves; sm_80 and newer.
//
// Of the product d[16, 8] += a[16, 16] b[16, 8], with group = lane / 4 and pair = lane % 4, a lane
// holds
//   a[0], a[1]  rows group, group + 8, columns 2 pair, 2 pair + 1;  a[2], a[3]  columns 8 further
//   b0, b1      rows 2 pair, 2 pair + 1 (b1: 8 further) of column group
//   d[0..1], d[2..3]  rows group, group + 8, columns 2 pair, 2 pair + 1
#pragma once

#include <type_traits>

#include "arithmetic.cuh"

#if defined(TEMPRA_CUDA_EMULATED)
#include "emulated_tensor_core.h"
#endif

namespace tempra::cuda {

#if !defined(TEMPRA_CUDA_EMULATED)

__device__ __forceinline__ unsigned shared_address(const void* in_shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(in_shared));
}

// T: bfloat16 or float16.
template <class T>
__device__ __forceinline__ void multiply_accumulate(float (&d)[4], const std::uint32_t (&a)[4],
                                                    std::uint32_t b0, std::uint32_t b1) {
    if constexpr (std::is_same_v<T, bfloat16>) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        static_assert(std::is_same_v<T, float16>);
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

// Four matrices of 8 x 8: lane l gives the address of row l % 8 of matrix l / 8 and gets, of matrix
// j in to[j], elements 2 (l % 4) and the next of row l / 4.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of the transposed matrices.
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// 16 bytes, both sides aligned.
__device__ __forceinline__ void copy_async(void* to_shared, const void* from_global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(to_shared)),
                 "l"(from_global)
                 : "memory");
}
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Until at most `kPending` of the last committed groups of this thread are under way.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

#endif

// The first in the lower half.
template <class T>
__device__ __forceinline__ std::uint32_t pack_pair(float first, float second) {
    return static_cast<std::uint32_t>(from_arithmetic<T>(first).bits) |
           static_cast<std::uint32_t>(from_arithmetic<T>(second).bits) << 16;
}

}  // namespace tempra::cuda
