// Inline small vector of int64: the sizes or strides of a tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "tempra/error.h"
#include "tempra/tensor_view.h"

namespace tempra {

class Shape {
  public:
    Shape() = default;
    Shape(std::initializer_list<std::int64_t> sizes)
        : Shape(std::span(sizes.begin(), sizes.end())) {}
    explicit Shape(std::span<const std::int64_t> sizes) {
        TEMPRA_CHECK(ShapeError, sizes.size() <= kMaxDimensions,
                     "shape: {} dimensions given, at most {} are supported", sizes.size(),
                     kMaxDimensions);
        for (const std::int64_t size : sizes) sizes_[count_++] = size;
    }
    // `count` dimensions, each `value`.
    [[nodiscard]] static Shape filled(int count, std::int64_t value) {
        Shape shape;
        for (int i = 0; i < count; ++i) shape.push_back(value);
        return shape;
    }

    [[nodiscard]] int dimensions() const noexcept { return count_; }
    [[nodiscard]] std::int64_t operator[](int i) const noexcept { return sizes_[i]; }
    [[nodiscard]] std::int64_t& operator[](int i) noexcept { return sizes_[i]; }
    [[nodiscard]] std::int64_t back() const noexcept { return sizes_[count_ - 1]; }
    [[nodiscard]] const std::int64_t* begin() const noexcept { return sizes_; }
    [[nodiscard]] const std::int64_t* end() const noexcept { return sizes_ + count_; }

    void push_back(std::int64_t size) {
        TEMPRA_CHECK(ShapeError, count_ < kMaxDimensions,
                     "shape: more than {} dimensions are not supported", kMaxDimensions);
        sizes_[count_++] = size;
    }
    void insert(int at, std::int64_t size);
    void erase(int at);

    // Product of the sizes; raises ShapeError when it does not fit 63 bits.
    [[nodiscard]] std::int64_t numel() const;

    friend bool operator==(const Shape& a, const Shape& b) noexcept {
        if (a.count_ != b.count_) return false;
        for (int i = 0; i < a.count_; ++i) {
            if (a.sizes_[i] != b.sizes_[i]) return false;
        }
        return true;
    }

  private:
    std::int64_t sizes_[kMaxDimensions] = {};
    int count_ = 0;
};

using Strides = Shape;

[[nodiscard]] Strides contiguous_strides(const Shape& sizes);
// NumPy broadcasting; `operation` opens the error message.
[[nodiscard]] Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b);
// Maps a possibly negative dimension into [0, dimensions); raises ShapeError.
[[nodiscard]] int normalize_dimension(const char* operation, std::int64_t dimension,
                                      int dimensions);

// Prints "[2, 3]".
std::ostream& operator<<(std::ostream& out, const Shape& shape);

}  // namespace tempra
