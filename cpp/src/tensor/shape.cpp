#include "tempra/shape.h"

namespace tempra {

void Shape::insert(int at, std::int64_t size) {
    push_back(size);
    for (int i = count_ - 1; i > at; --i) sizes_[i] = sizes_[i - 1];
    sizes_[at] = size;
}

void Shape::erase(int at) {
    for (int i = at; i + 1 < count_; ++i) sizes_[i] = sizes_[i + 1];
    --count_;
}

std::int64_t Shape::numel() const {
    std::int64_t count = 1;
    for (int i = 0; i < count_; ++i) {
        TEMPRA_CHECK(ShapeError, sizes_[i] >= 0, "shape {}: sizes cannot be negative", *this);
        TEMPRA_CHECK(ShapeError, !__builtin_mul_overflow(count, sizes_[i], &count),
                     "shape {}: the number of elements does not fit 63 bits", *this);
    }
    return count;
}

Strides contiguous_strides(const Shape& sizes) {
    Strides strides = Shape::filled(sizes.dimensions(), 1);
    for (int i = sizes.dimensions() - 2; i >= 0; --i) {
        strides[i] = strides[i + 1] * (sizes[i + 1] > 1 ? sizes[i + 1] : 1);
    }
    return strides;
}

Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b) {
    const int dimensions = a.dimensions() > b.dimensions() ? a.dimensions() : b.dimensions();
    Shape result = Shape::filled(dimensions, 1);
    for (int i = 1; i <= dimensions; ++i) {
        const std::int64_t size_a = i <= a.dimensions() ? a[a.dimensions() - i] : 1;
        const std::int64_t size_b = i <= b.dimensions() ? b[b.dimensions() - i] : 1;
        TEMPRA_CHECK(
            ShapeError, size_a == size_b || size_a == 1 || size_b == 1,
            "{}: shapes {} and {} do not broadcast: {} against {} in dimension {} from the end",
            operation, a, b, size_a, size_b, i);
        result[dimensions - i] = size_a == 1 ? size_b : size_a;
    }
    return result;
}

int normalize_dimension(const char* operation, std::int64_t dimension, int dimensions) {
    TEMPRA_CHECK(ShapeError, dimension >= -dimensions && dimension < dimensions,
                 "{}: dimension {} given for a tensor of {} dimensions", operation, dimension,
                 dimensions);
    return static_cast<int>(dimension < 0 ? dimension + dimensions : dimension);
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (int i = 0; i < shape.dimensions(); ++i) out << (i == 0 ? "" : ", ") << shape[i];
    return out << ']';
}

}  // namespace tempra
