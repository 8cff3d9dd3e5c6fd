// Working memory for kernels, from the caching pool, so that a hot loop does not reach the system.
#pragma once

#include <cstdint>

namespace tempra {

// At least `bytes` bytes, 64-byte aligned, uninitialised; null when memory is exhausted. Released
// blocks are kept for reuse by any thread and counted in the memory statistics.
[[nodiscard]] void* scratch_acquire(std::int64_t bytes) noexcept;
void scratch_release(void* block, std::int64_t bytes) noexcept;

// Holds a block for a scope; usable from kernels compiled for any ISA (nothing here is a template
// of the standard library).
class Scratch {
  public:
    explicit Scratch(std::int64_t bytes) noexcept : block_(scratch_acquire(bytes)), bytes_(bytes) {}
    ~Scratch() {
        if (block_ != nullptr) scratch_release(block_, bytes_);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    [[nodiscard]] bool ok() const noexcept { return block_ != nullptr; }
    template <class T>
    [[nodiscard]] T* as() const noexcept {
        return static_cast<T*>(block_);
    }

  private:
    void* block_;
    std::int64_t bytes_;
};

}  // namespace tempra
