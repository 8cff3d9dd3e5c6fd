// The parts of attention, each in a file of its own.
#pragma once

#include "dispatch/kernel_table.h"

namespace tempra::cuda {

// bf16 and fp16 with heads of up to 128 elements, on tensor cores.
[[nodiscard]] KernelStatus attention_forward_tiles(const KernelContext& context,
                                                   const AttentionArguments& a);
// `delta` [heads, tokens_q]: sum over a row of grad_out * out.
[[nodiscard]] KernelStatus attention_backward_tiles(const KernelContext& context,
                                                    const AttentionBackwardArguments& a,
                                                    const float* delta);
// Few queries (`is_decoding`) of any dtype: chunks of keys side by side, then put together.
[[nodiscard]] KernelStatus attention_decode(const KernelContext& context,
                                            const AttentionArguments& a);
// Anything else, a warp a row.
[[nodiscard]] KernelStatus attention_forward_rows(const KernelContext& context,
                                                  const AttentionArguments& a);
[[nodiscard]] KernelStatus attention_backward_rows(const KernelContext& context,
                                                   const AttentionBackwardArguments& a,
                                                   const float* delta);

}  // namespace tempra::cuda
