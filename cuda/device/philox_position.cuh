// Random words at a position that the host gives, or whose step lies in device memory.
#pragma once

#include "dispatch/kernel_table.h"
#include "random/philox.h"

namespace tempra::cuda {

// Loaded where it is used, each time: the attention kernels have no register to keep it in.
__device__ __forceinline__ std::uint32_t philox_step(const PhiloxKey& key) {
    if (key.step_on_device == nullptr) return key.step;
#ifdef TEMPRA_CUDA_EMULATED
    return *key.step_on_device;
#else
    std::uint32_t step;
    asm volatile("ld.global.ca.u32 %0, [%1];" : "=r"(step) : "l"(key.step_on_device));
    return step;
#endif
}

// `row` counts from the key's first; `element_block` = element / 4.
__device__ __forceinline__ PhiloxBlock philox_at(const PhiloxKey& key, std::int64_t row,
                                                 std::uint32_t element_block) {
    return philox_block(key.seed, philox_step(key), key.ordinal,
                        key.row_offset + static_cast<std::uint32_t>(row), element_block);
}

}  // namespace tempra::cuda
