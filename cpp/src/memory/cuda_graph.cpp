#include <utility>

#include "memory/cuda_stream.h"
#include "tempra/error.h"

namespace tempra {

CudaGraph::CudaGraph(int index) : index_(index) {
    CudaStream& stream = CudaStream::of(index);
    stream.check(stream.library().capture_begin(stream.handle()));
}

CudaGraph::~CudaGraph() {
    discard();
    // A forked child has no use of the device: its parent's graphs are not its own.
    CudaStream* const stream = graph_ != nullptr ? CudaStream::find(index_) : nullptr;
    if (stream == nullptr) return;
    if (launched_) ++cuda_traffic_counts().waits;
    static_cast<void>(stream->library().graph_destroy(graph_));
}

void CudaGraph::discard() noexcept {
    if (std::exchange(has_ended_, true)) return;
    CudaStream* const stream = CudaStream::find(index_);
    if (stream == nullptr) return;
    static_cast<void>(stream->library().capture_end(stream->handle(), nullptr));
}

void CudaGraph::end() {
    TEMPRA_CHECK(Error, !has_ended_, "CUDA graph: its recording has ended already");
    const CudaStream& stream = CudaStream::of(index_);
    has_ended_ = true;
    stream.check(stream.library().capture_end(stream.handle(), &graph_));
    ++cuda_traffic_counts().captures;
}

void CudaGraph::launch() {
    TEMPRA_CHECK(Error, graph_ != nullptr,
                 "CUDA graph: launched before its recording ended, or after it failed");
    const CudaStream& stream = CudaStream::of(index_);
    stream.check(stream.library().graph_launch(graph_, stream.handle()));
    launched_ = true;
    ++cuda_traffic_counts().graph_launches;
}

}  // namespace tempra
