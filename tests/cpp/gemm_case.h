// Matrix products for tests: operands in every layout and dtype, sums in double to compare with.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "dispatch/select.h"

namespace tempra::testing {

[[nodiscard]] double get(const TensorView& v, std::int64_t offset);
void set(const TensorView& v, std::int64_t offset, double value);

// A [batch, rows, columns] array with padded, optionally transposed storage. Storage outside the
// matrix is NaN, so that reading it shows; after the product it must be unchanged.
struct Array {
    std::vector<unsigned char> storage;
    TensorView view;

    Array() = default;
    Array(DType dtype, std::int64_t batch, std::int64_t rows, std::int64_t columns, bool transposed,
          std::int64_t padding, bool shared_batch, std::mt19937& random) {
        const std::int64_t leading = (transposed ? rows : columns) + padding;
        const std::int64_t one = leading * (transposed ? columns : rows);
        const std::int64_t copies = shared_batch ? 1 : batch;
        storage.resize(static_cast<std::size_t>((one * copies + 1) * size_of(dtype)));
        view.data = storage.data();
        view.dtype = dtype;
        view.dimensions = 3;
        view.sizes[0] = batch, view.sizes[1] = rows, view.sizes[2] = columns;
        view.strides[0] = shared_batch ? 0 : one;
        view.strides[1] = transposed ? 1 : leading;
        view.strides[2] = transposed ? leading : 1;
        for (std::int64_t i = 0; i < one * copies + 1; ++i) set(view, i, std::nan(""));
        std::uniform_real_distribution<double> uniform(-1, 1);
        for_each([&](std::int64_t offset) { set(view, offset, uniform(random)); });
    }
    template <class Body>
    void for_each(const Body& body) const {
        for (std::int64_t b = 0; b < (view.strides[0] == 0 ? 1 : view.sizes[0]); ++b) {
            for (std::int64_t i = 0; i < view.sizes[1]; ++i) {
                for (std::int64_t j = 0; j < view.sizes[2]; ++j) body(offset(b, i, j));
            }
        }
    }
    [[nodiscard]] std::int64_t offset(std::int64_t b, std::int64_t i, std::int64_t j) const {
        return b * view.strides[0] + i * view.strides[1] + j * view.strides[2];
    }
    [[nodiscard]] double at(std::int64_t b, std::int64_t i, std::int64_t j) const {
        return get(view, offset(b, i, j));
    }
    // The same storage as a view of this object's, without the batch dimension when there is one.
    [[nodiscard]] TensorView matrix() const {
        TensorView v = view;
        v.data = const_cast<unsigned char*>(storage.data());
        if (v.sizes[0] != 1) return v;
        v.dimensions = 2;
        for (int i = 0; i < 2; ++i)
            v.sizes[i] = view.sizes[i + 1], v.strides[i] = view.strides[i + 1];
        return v;
    }
};

enum Flags : unsigned {
    kTransposeA = 1,
    kTransposeB = 2,
    kBias = 4,
    kBiasF32 = 8,
    kResidual = 16,
    kPreActivation = 32,
    kActivationInput = 64,
    kAccumulate = 128,
    kShareA = 256,
    kShareB = 512,
    kPackedB = 1024,
};

struct Case {
    std::int64_t m, n, k;
    unsigned flags = 0;
    Activation activation = Activation::none;
    std::int64_t batch = 1;
    std::int64_t padding = 0;
};

struct Types {
    DType operand, result;
};

// Everything of one product, so that a test can run it again.
struct ProductSetup {
    Array a, b, c, bias, residual, pre_activation, activation_input;
    std::vector<unsigned char> packed;
    GemmArguments arguments;
};

void make(ProductSetup& s, const KernelTable& table, const Case& t, Types types, unsigned seed);

// Runs one case and compares every element; also that padding was left alone.
void check(const KernelTable& table, const Case& t, Types types);

[[nodiscard]] std::string bytes_of(const Array& array);

// Those of this machine, and the dtypes of products that `isa` has.
[[nodiscard]] std::vector<cpu::Isa> runnable_isas();
[[nodiscard]] std::vector<Types> product_types(cpu::Isa isa);

}  // namespace tempra::testing
