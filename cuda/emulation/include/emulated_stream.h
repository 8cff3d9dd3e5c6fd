// What is put on an emulated stream: done at once, or recorded while the stream is captured.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cuda_runtime_api.h"

namespace tempra::cuda::emulation {

using Work = std::function<void()>;

struct RecordedGraph {
    std::vector<Work> work;
};

// A library that is given a stream alone (cublas_lt.cpp) finds its first member.
struct EmulatedStream {
    void (*put)(EmulatedStream* stream, void (*run)(void*), void (*destroy)(void*), void* context);
    std::unique_ptr<RecordedGraph> recorded;  // while it is captured
    bool is_broken = false;                   // something waited for it meanwhile
};

void perform(cudaStream_t stream, Work work);

// What a call returns: a failure stays for cudaGetLastError of the calling thread, as on a device.
cudaError_t returned(cudaError_t error);

}  // namespace tempra::cuda::emulation
