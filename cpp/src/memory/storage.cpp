#include "memory/storage.h"

#include <utility>

#include "memory/caching_pool.h"
#include "tempra/error.h"

namespace tempra {

Storage::Storage(std::int64_t bytes) : data_(pool_allocate(bytes)), bytes_(bytes), pooled_(true) {
    if (data_ == nullptr) {
        const MemoryStatistics held = pool_statistics();
        throw Error(
            format("out of memory: {} bytes asked for; tensors hold {} bytes of {} reserved; "
                   "use a smaller batch or sequence, or activation recomputation",
                   bytes, held.bytes_in_use, held.bytes_reserved));
    }
}

Storage::Storage(void* data, std::int64_t bytes, std::function<void()> release, bool writable)
    : data_(data),
      bytes_(bytes),
      release_(std::move(release)),
      pooled_(false),
      writable_(writable) {}

Storage::~Storage() {
    if (pooled_) {
        pool_release(data_, bytes_);
    } else if (release_) {
        release_();
    }
}

}  // namespace tempra
