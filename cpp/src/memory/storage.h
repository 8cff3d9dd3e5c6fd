// Owned bytes that tensors are views of.
#pragma once

#include <cstdint>
#include <functional>

#include "tempra/device.h"
#include "tempra/intrusive_ptr.h"

namespace tempra {

class Storage : public RefCounted {
  public:
    // From the caching pool; raises Error, with what was asked and what is held, when it is
    // exhausted.
    explicit Storage(std::int64_t bytes);
    // Borrowed: `release` runs at the end.
    Storage(void* data, std::int64_t bytes, std::function<void()> release, bool writable);
    ~Storage() override;

    [[nodiscard]] void* data() const noexcept { return data_; }
    [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] bool writable() const noexcept { return writable_; }

  private:
    void* data_;
    std::int64_t bytes_;
    std::function<void()> release_;
    bool pooled_;
    bool writable_ = true;
};

// Shared by a tensor and its views: saved tensors compare it to notice in-place writes.
class VersionCounter : public RefCounted {
  public:
    std::uint64_t value = 0;
};

}  // namespace tempra
