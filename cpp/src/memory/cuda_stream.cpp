#include "memory/cuda_stream.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "memory/cuda_library.h"
#include "tempra/error.h"

namespace tempra {

namespace {

struct Streams {
    std::mutex mutex;
    std::vector<std::unique_ptr<CudaStream>> by_index;
    std::int32_t devices = 0;
};

Streams& streams() {
    static auto* const made = new Streams;  // tensors may be released after static destructors
    return *made;
}

// The calling thread's current device as the library knows it. Asked each time where there are
// several devices: another library in the process may have chosen one.
thread_local int chosen_device = -1;

void choose(const TempraCudaLibrary& library, int index, std::int32_t devices) {
    if (devices == 1 && chosen_device == index) return;
    const TempraCudaStatus status = library.set_device(index);
    if (status != TEMPRA_CUDA_OK) throw DeviceError(library.last_error());
    chosen_device = index;
}

}  // namespace

CudaTrafficCounts& cuda_traffic_counts() {
    static CudaTrafficCounts counts;
    return counts;
}

CudaStream& CudaStream::of(int index) {
    const TempraCudaLibrary& library = cuda_loader().library();
    Streams& all = streams();
    const std::scoped_lock lock(all.mutex);
    const auto place = static_cast<std::size_t>(index < 0 ? 0 : index);
    if (index >= 0 && place < all.by_index.size() && all.by_index[place] != nullptr) {
        choose(library, index, all.devices);
        return *all.by_index[place];
    }
    cuda_loader().check_device(index);
    if (library.device_count(&all.devices) != TEMPRA_CUDA_OK) {
        throw DeviceError(library.last_error());
    }
    choose(library, index, all.devices);
    if (all.by_index.size() <= place) all.by_index.resize(place + 1);
    all.by_index[place] = std::make_unique<CudaStream>(library);
    return *all.by_index[place];
}

CudaStream* CudaStream::find(int index) noexcept try { return &of(index); } catch (...) {
    return nullptr;
}

CudaStream::CudaStream(const TempraCudaLibrary& library)
    : library_(library), stage_(std::make_unique<PinnedStage>(library)) {
    check(library_.stream_create(&compute_));
    check(library_.stream_create(&uploads_));
}

void CudaStream::check(TempraCudaStatus status) const {
    switch (status) {
        case TEMPRA_CUDA_OK: return;
        case TEMPRA_CUDA_OUT_OF_MEMORY: throw Error(library_.last_error());
        case TEMPRA_CUDA_INDEX_OUT_OF_RANGE: throw ShapeError(library_.last_error());
        default: throw DeviceError(library_.last_error());
    }
}

void* CudaStream::allocate(std::int64_t bytes) {
    void* block = nullptr;
    check(library_.allocate(bytes, compute_, &block));
    return block;
}

void CudaStream::release(void* block) noexcept { static_cast<void>(library_.release(block)); }

void CudaStream::write(void* to, const void* from, std::int64_t bytes) {
    if (bytes == 0) return;
    CudaTrafficCounts& counts = cuda_traffic_counts();
    ++counts.copies_to_device;
    counts.bytes_to_device += bytes;
    bool waited = false;
    // In pieces, as the driver would read page-locked memory of the caller's later on.
    for (std::int64_t done = 0; done < bytes; done += PinnedStage::kLargestCopy) {
        check(stage_->copy(static_cast<char*>(to) + done, static_cast<const char*>(from) + done,
                           std::min(bytes - done, PinnedStage::kLargestCopy), compute_, waited));
    }
    if (waited) ++counts.held_back;
}

void* CudaStream::upload(const void* from, std::int64_t bytes) {
    if (bytes > PinnedStage::kLargestCopy || bytes == 0) {
        void* const block = allocate(bytes);
        try {
            write(block, from, bytes);
        } catch (...) {
            release(block);
            throw;
        }
        return block;
    }
    CudaTrafficCounts& counts = cuda_traffic_counts();
    ++counts.copies_to_device;
    counts.bytes_to_device += bytes;
    void* block = nullptr;
    check(library_.allocate(bytes, uploads_, &block));
    bool waited = false;
    TempraCudaStatus status = stage_->copy(block, from, bytes, uploads_, waited);
    if (waited) ++counts.held_back;
    if (status == TEMPRA_CUDA_OK) status = library_.record_use(block, compute_);
    if (status != TEMPRA_CUDA_OK) release(block);
    check(status);
    try {
        order(uploads_, compute_);
    } catch (...) {
        release(block);
        throw;
    }
    return block;
}

void CudaStream::read(void* to, const void* from, std::int64_t bytes) {
    CudaTrafficCounts& counts = cuda_traffic_counts();
    ++counts.copies_to_host;
    counts.bytes_to_host += bytes;
    check(library_.copy_to_host(to, from, bytes, compute_));
    synchronize();
}

void CudaStream::synchronize() {
    ++cuda_traffic_counts().waits;
    check(library_.stream_synchronize(compute_));
}

void CudaStream::wait_for(void* other) { order(other, compute_); }
void CudaStream::let_wait(void* other) { order(compute_, other); }

void CudaStream::order(void* earlier, void* later) {
    void* event = nullptr;
    check(library_.event_create(&event));
    TempraCudaStatus status = library_.event_record(event, earlier);
    if (status == TEMPRA_CUDA_OK) status = library_.stream_wait(later, event);
    // The driver keeps an event that is waited for until that is over.
    static_cast<void>(library_.event_destroy(event));
    check(status);
}

CudaMemory cuda_memory(int index) {
    const CudaStream& stream = CudaStream::of(index);
    TempraCudaMemory now{};
    now.size = sizeof(now);
    stream.check(stream.library().memory(&now));
    return {now.bytes_requested, now.bytes_in_use,        now.peak_bytes_in_use,
            now.bytes_reserved,  now.peak_bytes_reserved, now.largest_free_block,
            now.allocations,     now.fragmentation};
}

void reset_peak_cuda_memory(int index) {
    const CudaStream& stream = CudaStream::of(index);
    stream.check(stream.library().reset_peak_memory());
}

void release_free_cuda_memory(int index) {
    const CudaStream& stream = CudaStream::of(index);
    stream.check(stream.library().release_cached_memory());
}

void synchronize_cuda(int index) { CudaStream::of(index).synchronize(); }

CudaTraffic cuda_traffic() {
    const CudaTrafficCounts& counts = cuda_traffic_counts();
    return {counts.waits,          counts.held_back,
            counts.copies_to_host, counts.copies_to_device,
            counts.bytes_to_host,  counts.bytes_to_device,
            counts.captures,       counts.graph_launches};
}

}  // namespace tempra
