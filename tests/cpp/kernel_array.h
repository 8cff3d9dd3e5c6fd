// Test data for kernels: two-dimensional arrays of any compute dtype, read and written as double,
// with guard elements between rows and at the end that a kernel must leave alone. And the list of
// (ISA, dtype) pairs that kernel tests run over.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "dispatch/select.h"

namespace tempra::testing_support {

class Array {
  public:
    Array(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t padding = 3)
        : dtype_(dtype),
          rows_(rows),
          columns_(columns),
          stride_(columns + padding),
          bytes_(static_cast<size_t>((rows * stride_ + padding + 1) * size_of(dtype)), kGuard) {}

    [[nodiscard]] TensorView view() {
        TensorView v;
        v.data = bytes_.data();
        v.dimensions = 2;
        v.sizes[0] = rows_;
        v.sizes[1] = columns_;
        v.strides[0] = stride_;
        v.strides[1] = 1;
        v.dtype = dtype_;
        return v;
    }
    // A column [rows] (of a one-column array) or a row [columns] (of a one-row array).
    [[nodiscard]] TensorView vector_view() {
        TensorView v = view();
        v.dimensions = 1;
        v.sizes[0] = rows_ * columns_;
        v.strides[0] = columns_ == 1 ? stride_ : 1;
        return v;
    }
    [[nodiscard]] std::int64_t rows() const { return rows_; }
    [[nodiscard]] std::int64_t columns() const { return columns_; }
    [[nodiscard]] DType dtype() const { return dtype_; }

    [[nodiscard]] double get(std::int64_t row, std::int64_t column = 0) const {
        const std::uint8_t* p = at(row, column);
        switch (dtype_) {
            case DType::f32: return read<float>(p);
            case DType::bf16: return static_cast<double>(read<bfloat16>(p).to_float());
            case DType::f64: return read<double>(p);
            case DType::i64: return static_cast<double>(read<std::int64_t>(p));
            case DType::i32: return read<std::int32_t>(p);
            default: ADD_FAILURE() << "dtype " << dtype_; return 0;
        }
    }
    void set(std::int64_t row, std::int64_t column, double value) {
        std::uint8_t* p = const_cast<std::uint8_t*>(at(row, column));
        switch (dtype_) {
            case DType::f32: return write(p, static_cast<float>(value));
            case DType::bf16: return write(p, bfloat16::from_float(static_cast<float>(value)));
            case DType::f64: return write(p, value);
            case DType::i64: return write(p, static_cast<std::int64_t>(value));
            case DType::i32: return write(p, static_cast<std::int32_t>(value));
            default: ADD_FAILURE() << "dtype " << dtype_;
        }
    }
    Array& fill(double value) {
        for (std::int64_t r = 0; r < rows_; ++r) {
            for (std::int64_t c = 0; c < columns_; ++c) set(r, c, value);
        }
        return *this;
    }
    Array& fill_normal(unsigned seed, double mean = 0, double deviation = 1) {
        std::mt19937 engine(seed);
        std::normal_distribution<double> normal(mean, deviation);
        for (std::int64_t r = 0; r < rows_; ++r) {
            for (std::int64_t c = 0; c < columns_; ++c) set(r, c, normal(engine));
        }
        return *this;
    }
    [[nodiscard]] std::vector<double> row(std::int64_t r) const {
        std::vector<double> values;
        for (std::int64_t c = 0; c < columns_; ++c) values.push_back(get(r, c));
        return values;
    }
    [[nodiscard]] bool guards_intact() const {
        const std::int64_t size = size_of(dtype_);
        for (std::int64_t i = 0; i < static_cast<std::int64_t>(bytes_.size()); ++i) {
            const std::int64_t element = i / size;
            const bool inside = element < rows_ * stride_ && element % stride_ < columns_;
            if (!inside && bytes_[static_cast<size_t>(i)] != kGuard) return false;
        }
        return true;
    }
    friend bool operator==(const Array& a, const Array& b) { return a.bytes_ == b.bytes_; }

  private:
    static constexpr std::uint8_t kGuard = 0xA5;

    template <class T>
    static T read(const std::uint8_t* p) {
        T value;
        std::memcpy(&value, p, sizeof(value));
        return value;
    }
    template <class T>
    static void write(std::uint8_t* p, T value) {
        std::memcpy(p, &value, sizeof(value));
    }
    [[nodiscard]] const std::uint8_t* at(std::int64_t row, std::int64_t column) const {
        return bytes_.data() + (row * stride_ + column) * size_of(dtype_);
    }

    DType dtype_;
    std::int64_t rows_, columns_, stride_;
    std::vector<std::uint8_t> bytes_;
};

// Half a unit in the last place of the dtype, relative.
inline double rounding_of(DType dtype) {
    return dtype == DType::bf16 ? 0x1p-9 : (dtype == DType::f64 ? 0x1p-53 : 0x1p-24);
}

// Each element within `roundings` roundings of the dtype, relative to the larger of |want| and
// `scale`; infinities and NaN in the same places; guards untouched.
inline void expect_near(const Array& got, const std::vector<double>& want, double roundings,
                        double scale, const std::string& what) {
    ASSERT_EQ(static_cast<size_t>(got.rows() * got.columns()), want.size()) << what;
    EXPECT_TRUE(got.guards_intact()) << what << ": wrote outside the rows";
    for (std::int64_t r = 0; r < got.rows(); ++r) {
        for (std::int64_t c = 0; c < got.columns(); ++c) {
            const double w = want[static_cast<size_t>(r * got.columns() + c)], g = got.get(r, c);
            if (!std::isfinite(w)) {
                EXPECT_TRUE(std::isnan(w) ? std::isnan(g) : g == w)
                    << what << " [" << r << ", " << c << "]: got " << g << ", want " << w;
                continue;
            }
            const double bound =
                roundings * rounding_of(got.dtype()) * std::max(std::abs(w), scale);
            if (!(std::abs(g - w) <= bound)) {
                ADD_FAILURE() << what << " [" << r << ", " << c << "]: got " << g << ", want " << w
                              << ", bound " << bound;
                return;
            }
        }
    }
}

struct KernelCase {
    cpu::Isa isa;
    DType dtype;

    [[nodiscard]] const KernelTable& table() const { return cpu_kernel_table(isa); }
    // dtype of statistics and parameter gradients
    [[nodiscard]] DType wide() const { return dtype == DType::f64 ? DType::f64 : DType::f32; }
    friend std::ostream& operator<<(std::ostream& out, const KernelCase& c) {
        return out << cpu::name_of(c.isa) << "_" << c.dtype;
    }
};

inline std::vector<cpu::Isa> runnable_isas() {
    std::vector<cpu::Isa> isas;
    for (const cpu::Isa isa :
         {cpu::Isa::baseline, cpu::Isa::avx2, cpu::Isa::avx512, cpu::Isa::avx512_bf16}) {
        if (isa <= cpu::detect_isa()) isas.push_back(isa);
    }
    return isas;
}

// f32 and bf16 on every ISA of this machine, f64 on the baseline.
inline std::vector<KernelCase> kernel_cases() {
    std::vector<KernelCase> cases;
    for (const cpu::Isa isa : runnable_isas()) {
        cases.push_back({isa, DType::f32});
        cases.push_back({isa, DType::bf16});
    }
    cases.push_back({cpu::Isa::baseline, DType::f64});
    return cases;
}

inline std::string kernel_case_name(const ::testing::TestParamInfo<KernelCase>& info) {
    std::ostringstream out;
    out << info.param;
    return out.str();
}

}  // namespace tempra::testing_support
