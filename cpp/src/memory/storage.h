// Owned bytes that tensors are views of.
#pragma once

#include <cstdint>
#include <functional>

#include "tempra/device.h"
#include "tempra/intrusive_ptr.h"

namespace tempra {

class Storage : public RefCounted {
  public:
    // From the device's caching pool; raises Error, with what was asked and what is held, when it
    // is exhausted.
    explicit Storage(std::int64_t bytes, Device device = {});
    // Borrowed: `release` runs at the end.
    Storage(void* data, std::int64_t bytes, std::function<void()> release, bool writable,
            Device device = {});
    // On a CUDA device, with a copy of what lies at `from` on the host.
    [[nodiscard]] static IntrusivePtr<Storage> uploaded(const void* from, std::int64_t bytes,
                                                        Device device);
    ~Storage() override;

    [[nodiscard]] void* data() const noexcept { return data_; }
    [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] bool writable() const noexcept { return writable_; }
    [[nodiscard]] Device device() const noexcept { return device_; }

  private:
    enum class Owner : std::uint8_t { pool, cuda, borrowed };

    void* data_ = nullptr;
    std::int64_t bytes_;
    std::function<void()> release_;
    Device device_;
    Owner owner_;
    bool writable_ = true;
};

// Shared by a tensor and its views: saved tensors compare it to notice in-place writes.
class VersionCounter : public RefCounted {
  public:
    std::uint64_t value = 0;
};

}  // namespace tempra
