// Structs that kernels read through a pointer, where the kernel finds them: on the CPU as they lie,
// for a CUDA device in memory of its own.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "memory/cuda_stream.h"
#include "memory/storage.h"

namespace tempra {

template <class Value>
class PlainValues {
    static_assert(std::is_trivially_copyable_v<Value>);

  public:
    PlainValues() = default;
    PlainValues(std::vector<Value> values, Device device)
        : host_(std::move(values)), device_(device) {
        if (device.type == DeviceType::cuda) {
            on_device_ = Storage::uploaded(host_.data(), bytes(), device);
        }
    }

    [[nodiscard]] Value* data() {
        return on_device_ ? static_cast<Value*>(on_device_->data()) : host_.data();
    }
    // On a device: where the values lie. Null on the CPU.
    [[nodiscard]] const IntrusivePtr<Storage>& storage() const { return on_device_; }
    [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(host_.size()); }
    // As kernels left them: from a device the host waits for that.
    [[nodiscard]] const std::vector<Value>& read() {
        if (on_device_) stream().read(host_.data(), on_device_->data(), bytes());
        return host_;
    }
    // Replaces `count` members of type `Member` from `first` on; behind what the device does.
    template <class Member>
    void write(const Member* first, std::int64_t count) {
        if (!on_device_) return;
        const auto* const begin = reinterpret_cast<const char*>(host_.data());
        const auto* const from = reinterpret_cast<const char*>(first);
        stream().write(static_cast<char*>(on_device_->data()) + (from - begin), from,
                       count * static_cast<std::int64_t>(sizeof(Member)));
    }
    // The host's values: what is written to one of them reaches a device through `write`.
    [[nodiscard]] std::vector<Value>& host() { return host_; }

  private:
    [[nodiscard]] std::int64_t bytes() const {
        return static_cast<std::int64_t>(host_.size() * sizeof(Value));
    }
    [[nodiscard]] CudaStream& stream() const { return CudaStream::of(device_.index); }

    std::vector<Value> host_;
    Device device_;
    IntrusivePtr<Storage> on_device_;
};

}  // namespace tempra
