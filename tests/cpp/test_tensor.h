// Small tensors for kernel tests: any dtype and layout, read and written as double.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/isa.h"
#include "dispatch/select.h"
#include "tempra/tensor_view.h"

namespace tempra::testing {

inline std::vector<cpu::Isa> isas_of_this_machine() {
    std::vector<cpu::Isa> isas;
    for (const cpu::Isa isa :
         {cpu::Isa::baseline, cpu::Isa::avx2, cpu::Isa::avx512, cpu::Isa::avx512_bf16}) {
        if (isa <= cpu::detect_isa()) isas.push_back(isa);
    }
    return isas;
}

// f32 and bf16 everywhere, f64 on the baseline.
inline std::vector<DType> compute_dtypes(cpu::Isa isa) {
    if (isa == cpu::Isa::baseline) return {DType::f32, DType::bf16, DType::f64};
    return {DType::f32, DType::bf16};
}

// contiguous; column-major order; every second element along each dimension of a larger block.
enum class Layout { contiguous, transposed, spaced };

using Sizes = std::vector<std::int64_t>;

class TestTensor {
  public:
    TestTensor(DType dtype, const Sizes& sizes, Layout layout = Layout::contiguous) {
        view_.dtype = dtype;
        view_.dimensions = static_cast<std::int32_t>(sizes.size());
        const std::int64_t spacing = layout == Layout::spaced ? 2 : 1;
        std::int64_t stride = 1;
        const auto place = [&](size_t d) {
            view_.sizes[d] = sizes[d];
            stride *= spacing;
            view_.strides[d] = stride;
            stride *= sizes[d];
        };
        if (layout == Layout::transposed) {
            for (size_t d = 0; d < sizes.size(); ++d) place(d);
        } else {
            for (size_t d = sizes.size(); d-- > 0;) place(d);
        }
        // 0xA5 between and behind the elements shows stray writes.
        bytes_.assign(static_cast<size_t>((stride + 64) * size_of(dtype)), std::uint8_t{0xA5});
        view_.data = bytes_.data();
    }
    TestTensor(const TestTensor& other) : bytes_(other.bytes_), view_(other.view_) {
        view_.data = bytes_.data();
    }
    TestTensor& operator=(const TestTensor&) = delete;

    [[nodiscard]] const TensorView& view() const { return view_; }
    [[nodiscard]] std::int64_t numel() const { return view_.numel(); }
    [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }

    // A view in which the dimensions of size 1 where `sizes` is larger step by 0.
    [[nodiscard]] TensorView broadcast_to(const Sizes& sizes) const {
        TensorView wide = view_;
        for (size_t d = 0; d < sizes.size(); ++d) {
            if (wide.sizes[d] == 1 && sizes[d] != 1) wide.strides[d] = 0;
            wide.sizes[d] = sizes[d];
        }
        return wide;
    }

    // Elements are numbered in row-major order of the sizes, whatever the layout.
    [[nodiscard]] double get(std::int64_t i) const { return get(view_, i); }
    void set(std::int64_t i, double value);
    static double get(const TensorView& view, std::int64_t i);
    static std::int64_t offset(const TensorView& view, std::int64_t i) {
        std::int64_t offset = 0;
        for (int d = view.dimensions - 1; d >= 0; --d) {
            offset += i % view.sizes[d] * view.strides[d];
            i /= view.sizes[d];
        }
        return offset;
    }

    template <class Function>
    TestTensor& fill(const Function& function) {
        for (std::int64_t i = 0; i < numel(); ++i) set(i, static_cast<double>(function(i)));
        return *this;
    }
    TestTensor& fill_normal(unsigned seed, double scale = 1.0) {
        std::mt19937 engine(seed);
        std::normal_distribution<double> normal(0.0, scale);
        return fill([&](std::int64_t) { return normal(engine); });
    }
    TestTensor& fill_uniform(unsigned seed, double low, double high) {
        std::mt19937 engine(seed);
        std::uniform_real_distribution<double> uniform(low, high);
        return fill([&](std::int64_t) { return uniform(engine); });
    }

  private:
    std::vector<std::uint8_t> bytes_;
    TensorView view_;
};

inline double half_to_double(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31;
    const double fraction = bits & 1023;
    double value =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) {
        value = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

// The nearest of all binary16 values, ties to the even one, by search in a table of them.
inline std::uint16_t double_to_half(double value) {
    static const std::vector<double> finite = [] {
        std::vector<double> values;
        for (std::uint16_t bits = 0; bits < 0x7C00; ++bits) values.push_back(half_to_double(bits));
        values.push_back(65536);  // what infinity stands for in rounding
        return values;
    }();
    if (std::isnan(value)) return 0x7E00;
    const double size = std::abs(value);
    std::int64_t bits = 0x7C00;
    if (size < 65536) {
        bits = std::lower_bound(finite.begin(), finite.end(), size) - finite.begin();
        if (bits > 0) {
            const double above = finite[static_cast<size_t>(bits)] - size;
            const double below = size - finite[static_cast<size_t>(bits - 1)];
            if (below < above || (below == above && bits % 2 == 1)) --bits;
        }
    }
    return static_cast<std::uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

inline double TestTensor::get(const TensorView& view, std::int64_t i) {
    const std::int64_t at = offset(view, i);
    switch (view.dtype) {
        case DType::f32: return view.as<float>()[at];
        case DType::bf16: return view.as<bfloat16>()[at].to_float();
        case DType::f16: return half_to_double(view.as<float16>()[at].bits);
        case DType::f64: return view.as<double>()[at];
        case DType::i64: return static_cast<double>(view.as<std::int64_t>()[at]);
        case DType::i32: return view.as<std::int32_t>()[at];
        case DType::u32: return view.as<std::uint32_t>()[at];
        case DType::u16: return view.as<std::uint16_t>()[at];
        case DType::u8:
        case DType::boolean: return view.as<std::uint8_t>()[at];
    }
    return 0;
}

inline void TestTensor::set(std::int64_t i, double value) {
    const std::int64_t at = offset(view_, i);
    switch (view_.dtype) {
        case DType::f32: view_.as<float>()[at] = static_cast<float>(value); break;
        case DType::bf16:
            view_.as<bfloat16>()[at] = bfloat16::from_float(static_cast<float>(value));
            break;
        case DType::f16: view_.as<float16>()[at].bits = double_to_half(value); break;
        case DType::f64: view_.as<double>()[at] = value; break;
        case DType::i64: view_.as<std::int64_t>()[at] = static_cast<std::int64_t>(value); break;
        case DType::i32: view_.as<std::int32_t>()[at] = static_cast<std::int32_t>(value); break;
        case DType::u32: view_.as<std::uint32_t>()[at] = static_cast<std::uint32_t>(value); break;
        case DType::u16: view_.as<std::uint16_t>()[at] = static_cast<std::uint16_t>(value); break;
        case DType::u8: view_.as<std::uint8_t>()[at] = static_cast<std::uint8_t>(value); break;
        case DType::boolean: view_.as<std::uint8_t>()[at] = value != 0 ? 1 : 0; break;
    }
}

// Largest relative error allowed of one rounding to `dtype`, times `roundings`.
inline double tolerance_of(DType dtype, double roundings = 1.0) {
    switch (dtype) {
        case DType::f64: return roundings * 0x1p-53;
        case DType::f32: return roundings * 0x1p-24;
        case DType::bf16: return 0x1p-8 + roundings * 0x1p-24;
        default: return 0.0;
    }
}

// Equal, both NaN, or within the tolerance relative to `want` (never finer than `absolute`).
inline bool agrees(double got, double want, double relative, double absolute = 0.0) {
    if (std::isnan(want)) return std::isnan(got);
    if (got == want) return true;
    if (std::isinf(want) || std::isinf(got)) return false;
    return std::abs(got - want) <= std::max(relative * std::abs(want), absolute);
}

}  // namespace tempra::testing
