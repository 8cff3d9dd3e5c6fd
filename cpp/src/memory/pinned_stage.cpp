#include "memory/pinned_stage.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace tempra {

namespace {

// Enough for the host to run a few steps ahead; buffers are as large as what went through them.
constexpr std::size_t kMostBuffers = 32;
constexpr std::int64_t kSmallestBuffer = 4096;

}  // namespace

PinnedStage::~PinnedStage() {
    for (const Buffer& buffer : buffers_) drop(buffer);
}

void PinnedStage::drop(const Buffer& buffer) {
    static_cast<void>(library_.event_destroy(buffer.event));
    static_cast<void>(library_.release_pinned(buffer.block));
}

TempraCudaStatus PinnedStage::make(std::int64_t bytes, Buffer& out) {
    const std::int64_t wanted = bytes < kSmallestBuffer ? kSmallestBuffer : bytes;
    out.bytes = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(wanted)));
    const TempraCudaStatus status = library_.allocate_pinned(out.bytes, &out.block);
    if (status != TEMPRA_CUDA_OK) return status;
    const TempraCudaStatus made = library_.event_create(&out.event);
    if (made != TEMPRA_CUDA_OK) static_cast<void>(library_.release_pinned(out.block));
    return made;
}

TempraCudaStatus PinnedStage::take(std::int64_t bytes, Buffer& out, bool& waited) {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
        if (buffers_[i].bytes < bytes) continue;
        std::int32_t complete = 0;
        const TempraCudaStatus status = library_.event_is_complete(buffers_[i].event, &complete);
        if (status != TEMPRA_CUDA_OK) return status;
        if (complete == 0) continue;
        out = buffers_[i];
        buffers_.erase(buffers_.begin() + static_cast<std::ptrdiff_t>(i));
        return TEMPRA_CUDA_OK;
    }
    if (buffers_.size() < kMostBuffers) return make(bytes, out);
    waited = true;
    out = buffers_.front();
    const TempraCudaStatus status = library_.event_synchronize(out.event);
    if (status != TEMPRA_CUDA_OK) return status;
    buffers_.erase(buffers_.begin());
    if (out.bytes >= bytes) return TEMPRA_CUDA_OK;
    drop(out);
    return make(bytes, out);
}

TempraCudaStatus PinnedStage::copy(void* to, const void* from, std::int64_t bytes, void* stream,
                                   bool& waited) {
    const std::scoped_lock lock(mutex_);
    Buffer buffer;
    TempraCudaStatus status = take(bytes, buffer, waited);
    if (status != TEMPRA_CUDA_OK) return status;
    std::memcpy(buffer.block, from, static_cast<std::size_t>(bytes));
    status = library_.copy_to_device(to, buffer.block, bytes, stream);
    if (status == TEMPRA_CUDA_OK) status = library_.event_record(buffer.event, stream);
    if (status != TEMPRA_CUDA_OK) {
        drop(buffer);  // with no event behind its copy nobody could tell when it is free
        return status;
    }
    buffers_.push_back(buffer);
    return status;
}

}  // namespace tempra
