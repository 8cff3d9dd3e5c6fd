// Page-locked host memory that small copies to a device go through, so that none of them waits: a
// buffer is used again once the copy out of it is done.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "tempra_cuda/abi.h"

namespace tempra {

class PinnedStage {
  public:
    explicit PinnedStage(const TempraCudaLibrary& library) : library_(library) {}
    ~PinnedStage();
    PinnedStage(const PinnedStage&) = delete;
    PinnedStage& operator=(const PinnedStage&) = delete;

    // The most that one copy takes; larger ones come in pieces.
    static constexpr std::int64_t kLargestCopy = std::int64_t{4} << 20;

    // Puts a copy of `bytes` bytes at `from` to the device address `to` on `stream`. When all
    // buffers are on their way it waits for the oldest and returns true through `waited`.
    [[nodiscard]] TempraCudaStatus copy(void* to, const void* from, std::int64_t bytes,
                                        void* stream, bool& waited);

  private:
    struct Buffer {
        void* block = nullptr;
        std::int64_t bytes = 0;
        void* event = nullptr;  // behind the last copy out of it
    };
    // A buffer that is free, taken off the list.
    [[nodiscard]] TempraCudaStatus take(std::int64_t bytes, Buffer& out, bool& waited);
    [[nodiscard]] TempraCudaStatus make(std::int64_t bytes, Buffer& out);
    void drop(const Buffer& buffer);

    const TempraCudaLibrary& library_;
    std::mutex mutex_;
    std::vector<Buffer> buffers_;  // the one used longest ago first
};

}  // namespace tempra
