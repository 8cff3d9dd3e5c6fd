// Driver, devices and their memory.
#pragma once

#include <cstdint>
#include <memory>

#include "caching_allocator.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {

TempraCudaStatus versions(TempraCudaVersions* out) noexcept;
TempraCudaStatus device_count(std::int32_t* out) noexcept;
TempraCudaStatus device_info(std::int32_t device, TempraCudaDeviceInfo* out) noexcept;
TempraCudaStatus set_device(std::int32_t device) noexcept;

// What the library keeps for a device, made at its first use and never destroyed: memory may be
// released while static objects are being destroyed.
struct DeviceState {
    std::int32_t index = 0;
    std::unique_ptr<DeviceMemory> memory;
    std::unique_ptr<CachingAllocator> allocator;
    // One int in device memory: kernels leave a DeviceFault there, `stream_synchronize` reads it.
    std::int32_t* fault = nullptr;
};

// Of the current device; null after `fail`.
[[nodiscard]] DeviceState* current_device() noexcept;

// Takes one memory block for a kernel's partial results, and releases it to the stream's pool when
// it goes out of scope: what the stream does later may use it again.
class Scratch {
  public:
    Scratch(std::int64_t bytes, void* stream) noexcept;
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    [[nodiscard]] bool ok() const noexcept { return block_ != nullptr; }
    template <class T>
    [[nodiscard]] T* as() const noexcept {
        return static_cast<T*>(block_);
    }

  private:
    DeviceState* device_ = nullptr;
    void* block_ = nullptr;
};

}  // namespace tempra::cuda
