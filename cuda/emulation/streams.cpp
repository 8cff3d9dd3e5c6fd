// Streams, events and graphs. What is put on a stream is done at once; while the stream is captured
// it is kept, and done with every launch of the graph. As on a device, waiting for a captured
// stream fails and spoils the capture, and so does asking for an event recorded on one.
#include "cuda_runtime_api.h"
#include "device_access.h"
#include "emulated_stream.h"

using namespace tempra::cuda::emulation;

namespace {

struct EmulatedEvent {
    EmulatedStream* captured_on = nullptr;
};

EmulatedStream* of(cudaStream_t stream) { return reinterpret_cast<EmulatedStream*>(stream); }
EmulatedEvent* of(cudaEvent_t event) { return reinterpret_cast<EmulatedEvent*>(event); }
RecordedGraph* of(cudaGraph_t graph) { return reinterpret_cast<RecordedGraph*>(graph); }
RecordedGraph* of(cudaGraphExec_t graph) { return reinterpret_cast<RecordedGraph*>(graph); }

bool spoils_capture(EmulatedStream* stream) {
    if (stream == nullptr || stream->recorded == nullptr) return false;
    stream->is_broken = true;
    return true;
}

void put(EmulatedStream* stream, void (*run)(void*), void (*destroy)(void*), void* context) {
    const std::shared_ptr<void> kept(context, destroy);
    perform(reinterpret_cast<cudaStream_t>(stream), [run, kept] {
        const DeviceAccess access;
        run(kept.get());
    });
}

}  // namespace

namespace tempra::cuda::emulation {

void perform(cudaStream_t stream, Work work) {
    if (of(stream)->recorded != nullptr) {
        of(stream)->recorded->work.push_back(std::move(work));
    } else {
        work();
    }
}

}  // namespace tempra::cuda::emulation

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = reinterpret_cast<cudaStream_t>(new EmulatedStream{put, nullptr, false});
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete of(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return returned(spoils_capture(of(stream)) ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new EmulatedEvent);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    // The driver's own streams (1 and 2 stand for them) are never captured.
    const bool own = reinterpret_cast<std::uintptr_t>(stream) <= 2;
    of(event)->captured_on = !own && of(stream)->recorded != nullptr ? of(stream) : nullptr;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return returned(spoils_capture(of(event)->captured_on) ? cudaErrorCapturedEvent : cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaEventQuery(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete of(event);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (of(stream)->recorded != nullptr) return returned(cudaErrorIllegalState);
    of(stream)->recorded = std::make_unique<RecordedGraph>();
    of(stream)->is_broken = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    if (of(stream)->recorded == nullptr) return returned(cudaErrorIllegalState);
    const std::unique_ptr<RecordedGraph> recorded = std::move(of(stream)->recorded);
    if (of(stream)->is_broken) return returned(cudaErrorStreamCaptureInvalidated);
    *graph = reinterpret_cast<cudaGraph_t>(new RecordedGraph(*recorded));
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
    *executable = reinterpret_cast<cudaGraphExec_t>(new RecordedGraph(*of(graph)));
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const Work& work : of(executable)->work) perform(stream, work);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete of(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete of(executable);
    return cudaSuccess;
}
