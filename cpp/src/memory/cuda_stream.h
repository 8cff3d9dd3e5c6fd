// A CUDA device as the core works with it: one stream that every kernel is put on, a second one for
// what comes from the host, and memory in the order of these streams.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "memory/pinned_stage.h"
#include "tempra/cuda.h"
#include "tempra_cuda/abi.h"

namespace tempra {

class CudaStream {
  public:
    // The device's, made at its first use and never destroyed. It is then the calling thread's
    // current device. DeviceError, with the reason, where the device cannot be used.
    [[nodiscard]] static CudaStream& of(int index);
    // The same without an error: null where the device cannot be used, as after a fork.
    [[nodiscard]] static CudaStream* find(int index) noexcept;

    explicit CudaStream(const TempraCudaLibrary& library);  // of the current device
    CudaStream(const CudaStream&) = delete;
    CudaStream& operator=(const CudaStream&) = delete;

    [[nodiscard]] const TempraCudaLibrary& library() const { return library_; }
    [[nodiscard]] void* handle() const { return compute_; }
    // Raises what a status of the library stands for, in the library's words.
    void check(TempraCudaStatus status) const;

    [[nodiscard]] void* allocate(std::int64_t bytes);
    // Work on the stream up to now may still use it. Never fails where it matters: a block that
    // cannot be given back stays in use.
    void release(void* block) noexcept;

    // Both return before they are done; `from` may be changed at once.
    // Behind what is on the stream:
    void write(void* to, const void* from, std::int64_t bytes);
    // A new block that holds `bytes` bytes of `from`, copied beside what the device is doing:
    [[nodiscard]] void* upload(const void* from, std::int64_t bytes);
    // Waits.
    void read(void* to, const void* from, std::int64_t bytes);
    void synchronize();

    // The stream waits for what is on `other` now, or lets it wait for what is on the stream now.
    void wait_for(void* other);
    void let_wait(void* other);

  private:
    void order(void* earlier, void* later);

    const TempraCudaLibrary& library_;
    void* compute_ = nullptr;
    void* uploads_ = nullptr;
    std::unique_ptr<PinnedStage> stage_;
};

// Counts behind `cuda_traffic`.
struct CudaTrafficCounts {
    std::atomic<std::int64_t> waits{0}, held_back{0}, copies_to_host{0}, copies_to_device{0};
    std::atomic<std::int64_t> bytes_to_host{0}, bytes_to_device{0};
    std::atomic<std::int64_t> captures{0}, graph_launches{0};
};
[[nodiscard]] CudaTrafficCounts& cuda_traffic_counts();

}  // namespace tempra
