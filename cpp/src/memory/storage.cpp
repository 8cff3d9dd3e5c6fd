#include "memory/storage.h"

#include <utility>

#include "memory/caching_pool.h"
#include "memory/cuda_stream.h"
#include "tempra/error.h"

namespace tempra {

Storage::Storage(std::int64_t bytes, Device device)
    : bytes_(bytes), device_(device), owner_(Owner::pool) {
    if (device.type == DeviceType::cuda) {
        owner_ = Owner::cuda;
        data_ = CudaStream::of(device.index).allocate(bytes);
        return;
    }
    data_ = pool_allocate(bytes);
    if (data_ == nullptr) {
        const MemoryStatistics held = pool_statistics();
        throw Error(
            format("out of memory: {} bytes asked for; tensors hold {} bytes of {} reserved; "
                   "use a smaller batch or sequence, or activation recomputation",
                   bytes, held.bytes_in_use, held.bytes_reserved));
    }
}

Storage::Storage(void* data, std::int64_t bytes, std::function<void()> release, bool writable,
                 Device device)
    : data_(data),
      bytes_(bytes),
      release_(std::move(release)),
      device_(device),
      owner_(Owner::borrowed),
      writable_(writable) {}

IntrusivePtr<Storage> Storage::uploaded(const void* from, std::int64_t bytes, Device device) {
    void* const block = CudaStream::of(device.index).upload(from, bytes);
    auto storage = make_counted<Storage>(block, bytes, nullptr, true, device);
    storage->owner_ = Owner::cuda;
    return storage;
}

Storage::~Storage() {
    if (owner_ == Owner::pool) {
        pool_release(data_, bytes_);
    } else if (owner_ == Owner::cuda) {
        // A forked child has no use of the device: its parent's memory is not its own.
        CudaStream* const stream = CudaStream::find(device_.index);
        if (stream != nullptr) stream->release(data_);
    } else if (release_) {
        release_();
    }
}

}  // namespace tempra
