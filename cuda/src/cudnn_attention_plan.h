// One plan of cuDNN for one shape of attention: built once, run often. cuDNN's frontend, which
// builds it, is a matter of cudnn_attention_plan.cpp alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "cudnn_attention_shape.h"
#include "cudnn_library.h"

namespace tempra::cuda {

using CudnnPointers = std::array<void*, kCudnnTensors>;

class CudnnAttentionPlan {
  public:
    CudnnAttentionPlan() = default;
    CudnnAttentionPlan(const CudnnAttentionPlan&) = delete;
    CudnnAttentionPlan& operator=(const CudnnAttentionPlan&) = delete;
    virtual ~CudnnAttentionPlan() = default;

    [[nodiscard]] virtual std::int64_t workspace_bytes() const = 0;
    [[nodiscard]] virtual std::string engine() const = 0;
    // Puts it on the handle's stream; "", or what went wrong.
    [[nodiscard]] virtual std::string run(void* handle, const CudnnPointers& tensors,
                                          void* workspace) const = 0;
};

// A handle of the current device; null after writing the reason.
[[nodiscard]] void* cudnn_handle(const CudnnLibrary& library, std::string& reason);
// "", or why not.
[[nodiscard]] std::string cudnn_set_stream(void* handle, void* stream);

// Null, with the reason in one line. Built for the handle's device, or where there is none, for the
// one that `device` describes as cuDNN writes it down (JSON): how plans are tested without a GPU.
[[nodiscard]] std::unique_ptr<CudnnAttentionPlan> build_cudnn_attention(
    const CudnnLibrary& library, const CudnnAttentionShape& shape, void* handle,
    const std::string& device, std::string& reason);

}  // namespace tempra::cuda
