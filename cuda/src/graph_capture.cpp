#include "graph_capture.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "error_message.h"

namespace tempra::cuda {

namespace {

struct Capture {
    DeviceState* device = nullptr;
    PoolHandle pool = 0;
};

struct Graph {
    cudaGraphExec_t executable = nullptr;
    Capture from;
    std::map<void*, cudaEvent_t> last_launches;  // by stream
};

// Of all threads. Never destroyed: streams outlive static objects.
struct Captures {
    std::mutex mutex;
    std::map<void*, Capture> by_stream;
    std::set<Graph*> graphs;
};

Captures& captures() {
    static auto* const made = new Captures;
    return *made;
}

// Ends what cudaStreamBeginCapture began, in any case.
cudaError_t take_recorded(void* stream, cudaGraphExec_t* executable) {
    cudaGraph_t recorded = nullptr;
    cudaError_t error = cudaStreamEndCapture(static_cast<cudaStream_t>(stream), &recorded);
    if (error != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return error;
    }
    if (executable != nullptr) error = cudaGraphInstantiate(executable, recorded, 0);
    static_cast<void>(cudaGraphDestroy(recorded));
    return error;
}

}  // namespace

bool is_captured(void* stream) noexcept {
    const std::scoped_lock lock(captures().mutex);
    return captures().by_stream.count(stream) != 0;
}

bool has_captured_stream(const DeviceState& device) noexcept {
    const std::scoped_lock lock(captures().mutex);
    return std::any_of(captures().by_stream.begin(), captures().by_stream.end(),
                       [&](const auto& entry) { return entry.second.device == &device; });
}

TempraCudaStatus refuse_captured(const char* call) noexcept {
    return fail(
        TEMPRA_CUDA_STREAM_IS_CAPTURED,
        std::string(call) +
            ": a stream is being captured into a graph; until capture_end nothing may wait for it, "
            "nor it for anything else, nor is anything copied between it and the host");
}

TempraCudaStatus capture_begin(void* stream) noexcept try {
    if (stream == nullptr) return fail(TEMPRA_CUDA_BAD_ARGUMENT, "capture_begin: no stream given");
    DeviceState* const device = current_device();
    if (device == nullptr) return TEMPRA_CUDA_FAILED;
    const std::scoped_lock lock(captures().mutex);
    if (captures().by_stream.count(stream) != 0) {
        return fail(TEMPRA_CUDA_STREAM_IS_CAPTURED,
                    "capture_begin: the stream is being captured already");
    }
    // Relaxed: the allocator may have to ask the driver for memory meanwhile.
    const cudaError_t error =
        cudaStreamBeginCapture(static_cast<cudaStream_t>(stream), cudaStreamCaptureModeRelaxed);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaStreamBeginCapture", error);
    captures().by_stream[stream] = {device, device->allocator->begin_pool(stream)};
    return TEMPRA_CUDA_OK;
} catch (const std::exception& error) {
    return fail(TEMPRA_CUDA_FAILED, std::string("capture_begin: ") + error.what());
}

TempraCudaStatus capture_end(void* stream, void** graph) noexcept try {
    if (graph != nullptr) *graph = nullptr;
    const std::scoped_lock lock(captures().mutex);
    const auto found = captures().by_stream.find(stream);
    if (found == captures().by_stream.end()) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, "capture_end: the stream is not being captured");
    }
    auto made = std::make_unique<Graph>();
    made->from = found->second;
    captures().by_stream.erase(found);
    CachingAllocator& allocator = *made->from.device->allocator;
    allocator.end_pool(stream);
    const cudaError_t error = take_recorded(stream, graph != nullptr ? &made->executable : nullptr);
    if (error != cudaSuccess || graph == nullptr) {
        allocator.release_pool(made->from.pool);
        if (error == cudaSuccess) return TEMPRA_CUDA_OK;
        return fail_with_cuda_error("capture_end: nothing was kept", error);
    }
    captures().graphs.insert(made.get());
    *graph = made.release();
    return TEMPRA_CUDA_OK;
} catch (const std::exception& error) {
    return fail(TEMPRA_CUDA_FAILED, std::string("capture_end: ") + error.what());
}

TempraCudaStatus graph_launch(void* graph, void* stream) noexcept try {
    const std::scoped_lock lock(captures().mutex);
    auto* const g = static_cast<Graph*>(graph);
    if (stream == nullptr || captures().graphs.count(g) == 0) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, stream == nullptr ? "graph_launch: no stream given"
                                                                : "graph_launch: no such graph");
    }
    if (captures().by_stream.count(stream) != 0) {
        return fail(TEMPRA_CUDA_STREAM_IS_CAPTURED,
                    "graph_launch: the stream is being captured; graphs do not hold graphs");
    }
    const auto on = static_cast<cudaStream_t>(stream);
    cudaEvent_t& done = g->last_launches[stream];
    cudaError_t error = cudaSuccess;
    if (done == nullptr) error = cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaGraphLaunch(g->executable, on);
    if (error == cudaSuccess) error = cudaEventRecord(done, on);
    return error == cudaSuccess ? TEMPRA_CUDA_OK : fail_with_cuda_error("graph_launch", error);
} catch (const std::exception& error) {
    return fail(TEMPRA_CUDA_FAILED, std::string("graph_launch: ") + error.what());
}

TempraCudaStatus graph_destroy(void* graph) noexcept try {
    const std::scoped_lock lock(captures().mutex);
    auto* const g = static_cast<Graph*>(graph);
    if (captures().graphs.count(g) == 0) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, "graph_destroy: no such graph");
    }
    cudaError_t error = cudaSuccess;
    for (const auto& [stream, done] : g->last_launches) {
        if (error == cudaSuccess) error = cudaEventSynchronize(done);
        static_cast<void>(cudaEventDestroy(done));
    }
    if (error == cudaSuccess) error = cudaGraphExecDestroy(g->executable);
    g->from.device->allocator->release_pool(g->from.pool);
    captures().graphs.erase(g);
    delete g;
    return error == cudaSuccess ? TEMPRA_CUDA_OK : fail_with_cuda_error("graph_destroy", error);
} catch (const std::exception& error) {
    return fail(TEMPRA_CUDA_FAILED, std::string("graph_destroy: ") + error.what());
}

}  // namespace tempra::cuda
