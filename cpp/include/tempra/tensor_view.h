// What a kernel sees of a tensor: plain data, standard layout, no ownership.
#pragma once

#include <cstdint>

#include "tempra/device.h"
#include "tempra/dtype.h"

namespace tempra {

inline constexpr int kMaxDimensions = 8;

// Strides count elements, may be 0 (broadcast) and are never negative. `data` already includes
// the storage offset. A view with `data == nullptr` and `dimensions == -1` stands for "absent".
struct TensorView {
    void* data = nullptr;
    std::int64_t sizes[kMaxDimensions] = {};
    std::int64_t strides[kMaxDimensions] = {};
    std::int32_t dimensions = -1;
    DType dtype = DType::f32;
    Device device = {};

    [[nodiscard]] constexpr bool present() const { return dimensions >= 0; }
    [[nodiscard]] constexpr std::int64_t size(int i) const {
        return sizes[i < 0 ? i + dimensions : i];
    }
    [[nodiscard]] constexpr std::int64_t stride(int i) const {
        return strides[i < 0 ? i + dimensions : i];
    }
    [[nodiscard]] constexpr std::int64_t numel() const {
        std::int64_t count = 1;
        for (int i = 0; i < dimensions; ++i) count *= sizes[i];
        return count;
    }
    // True when elements lie back to back in row-major order (or when there are none).
    [[nodiscard]] constexpr bool is_contiguous() const {
        if (numel() == 0) return true;
        std::int64_t expected = 1;
        for (int i = dimensions - 1; i >= 0; --i) {
            if (sizes[i] != 1 && strides[i] != expected) return false;
            expected *= sizes[i];
        }
        return true;
    }
    template <class T>
    [[nodiscard]] constexpr T* as() const {
        return static_cast<T*>(data);
    }
};

}  // namespace tempra
