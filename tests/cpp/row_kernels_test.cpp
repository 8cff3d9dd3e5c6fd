// Softmax, swiglu and rotary on every ISA against plain references in double, values and gradients.
#include <cmath>
#include <limits>

#include "kernel_array.h"
#include "tempra/threads.h"

namespace tempra::testing_support {
namespace {

using Values = std::vector<double>;
using Real = long double;  // so that the reference is better than the f64 kernels it judges
constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

class RowKernels : public testing::TestWithParam<KernelCase> {
  protected:
    [[nodiscard]] const KernelTable& table() const { return GetParam().table(); }
    [[nodiscard]] DType dtype() const { return GetParam().dtype; }
    [[nodiscard]] Array array(std::int64_t rows, std::int64_t columns) const {
        return {dtype(), rows, columns};
    }
    const KernelContext context_;
};

INSTANTIATE_TEST_SUITE_P(EveryIsa, RowKernels, testing::ValuesIn(kernel_cases()), kernel_case_name);

void append(Values& all, const Values& row) { all.insert(all.end(), row.begin(), row.end()); }

Values softmax_reference(const Values& x, bool logarithm) {
    Real largest = -static_cast<Real>(kInfinity), total = 0;
    for (const Real v : x) largest = std::max(largest, v);
    for (const Real v : x) total += std::exp(v - largest);
    Values y;
    for (const Real v : x) {
        y.push_back(static_cast<double>(logarithm ? v - largest - std::log(total)
                                                  : std::exp(v - largest) / total));
    }
    return y;
}

TEST_P(RowKernels, Softmax) {
    for (const std::int64_t columns : {1, 3, 17, 65, 1000}) {
        for (const bool logarithm : {false, true}) {
            Array x = array(5, columns), y = array(5, columns);
            x.fill_normal(7, 0, 3);
            Values want;
            for (std::int64_t r = 0; r < 5; ++r)
                append(want, softmax_reference(x.row(r), logarithm));
            ASSERT_EQ(table().softmax(context_, x.view(), logarithm, y.view()), kKernelOk);
            // exp of a difference of up to 20 carries 20 roundings of its argument.
            expect_near(y, want, 24, logarithm ? 1 : 0, logarithm ? "log_softmax" : "softmax");
        }
    }
}

TEST_P(RowKernels, SoftmaxOfExtremeRows) {
    const Values rows[] = {
        {-kInfinity, 1, -kInfinity, 1},                    // masked entries get nothing
        {-kInfinity, -kInfinity, -kInfinity, -kInfinity},  // nothing left: NaN
        {1, kNan, 0, 2},
        {1, kInfinity, 0, 2},
        {3e38, -3e38, 3e38, 0},  // no overflow
        {-1e30, -1e30, -1e30, -1e30},
    };
    const Values want[] = {
        {0, 0.5, 0, 0.5},         {kNan, kNan, kNan, kNan}, {kNan, kNan, kNan, kNan},
        {kNan, kNan, kNan, kNan}, {0.5, 0, 0.5, 0},         {0.25, 0.25, 0.25, 0.25},
    };
    for (const std::int64_t repeats : {1, 5, 40}) {
        const std::int64_t columns = 4 * repeats;
        for (size_t k = 0; k < std::size(rows); ++k) {
            Array x = array(1, columns), y = array(1, columns);
            Values expected;
            for (std::int64_t c = 0; c < columns; ++c) {
                x.set(0, c, rows[k][static_cast<size_t>(c % 4)]);
                expected.push_back(want[k][static_cast<size_t>(c % 4)] /
                                   static_cast<double>(repeats));
            }
            ASSERT_EQ(table().softmax(context_, x.view(), 0, y.view()), kKernelOk);
            expect_near(y, expected, 4, 0, "row " + std::to_string(k));
        }
    }
}

TEST_P(RowKernels, SoftmaxBackward) {
    for (const std::int64_t columns : {1, 3, 17, 65, 1000}) {
        for (const bool logarithm : {false, true}) {
            Array x = array(4, columns), y = array(4, columns), dy = array(4, columns),
                  dx = array(4, columns);
            x.fill_normal(3);
            dy.fill_normal(4);
            ASSERT_EQ(table().softmax(context_, x.view(), logarithm, y.view()), kKernelOk);
            ASSERT_EQ(table().softmax_backward(context_, y.view(), dy.view(), logarithm, dx.view()),
                      kKernelOk);
            Values want;
            double scale = 0;
            for (std::int64_t r = 0; r < 4; ++r) {
                double dot = 0, sum = 0;
                for (std::int64_t c = 0; c < columns; ++c) {
                    dot += y.get(r, c) * dy.get(r, c);
                    sum += dy.get(r, c);
                }
                for (std::int64_t c = 0; c < columns; ++c) {
                    want.push_back(logarithm ? dy.get(r, c) - std::exp(y.get(r, c)) * sum
                                             : y.get(r, c) * (dy.get(r, c) - dot));
                    scale = std::max(scale, std::abs(want.back()));
                }
            }
            expect_near(dx, want, 8, std::max(scale, 1e-30) + (columns == 1 ? 1 : 0), "dx");
        }
    }
}

TEST_P(RowKernels, Swiglu) {
    for (const std::int64_t columns : {1, 3, 17, 65, 1000}) {
        Array gate = array(3, columns), up = array(3, columns), out = array(3, columns),
              dout = array(3, columns), dgate = array(3, columns), dup = array(3, columns);
        gate.fill_normal(1, 0, 4);
        up.fill_normal(2);
        dout.fill_normal(3);
        gate.set(0, 0, -200);  // exp overflows: silu is 0
        gate.set(1, 0, 200);
        Values want, want_gate, want_up;
        for (std::int64_t r = 0; r < 3; ++r) {
            for (std::int64_t c = 0; c < columns; ++c) {
                const double g = gate.get(r, c), u = up.get(r, c), d = dout.get(r, c);
                const double s = 1 / (1 + std::exp(-g));
                want.push_back(g * s * u);
                want_gate.push_back(d * u * s * (1 + g * (1 - s)));
                want_up.push_back(d * g * s);
            }
        }
        ASSERT_EQ(table().swiglu(context_, gate.view(), up.view(), out.view()), kKernelOk);
        ASSERT_EQ(table().swiglu_backward(context_, gate.view(), up.view(), dout.view(),
                                          dgate.view(), dup.view()),
                  kKernelOk);
        expect_near(out, want, 16, 0.01, "out");
        expect_near(dgate, want_gate, 16, 0.1, "dgate");
        expect_near(dup, want_up, 16, 0.01, "dup");
    }
}

struct RotaryShape {
    std::int64_t tokens, heads, head_dim, rotary_dim;
    DType position_dtype;
};

// [tokens, heads, head_dim] over a two-dimensional array whose rows are whole tokens.
TensorView heads_view(Array& array, const RotaryShape& shape) {
    TensorView v = array.view();
    v.dimensions = 3;
    v.sizes[1] = shape.heads;
    v.sizes[2] = shape.head_dim;
    v.strides[1] = shape.head_dim;
    v.strides[2] = 1;
    return v;
}

TEST_P(RowKernels, Rotary) {
    constexpr std::int64_t kPositions = 11;
    for (const RotaryShape& s : {RotaryShape{5, 3, 64, 64, DType::i64},
                                 {4, 2, 10, 6, DType::i32},
                                 {3, 1, 2, 2, DType::i32},
                                 {7, 2, 33, 26, DType::i64}}) {
        const std::int64_t half = s.rotary_dim / 2;
        Array x = array(s.tokens, s.heads * s.head_dim), out = x, back = x;
        x.fill_normal(9);
        Array cosines(DType::f32, kPositions, half), sines(DType::f32, kPositions, half);
        Array positions(s.position_dtype, s.tokens, 1);
        for (std::int64_t p = 0; p < kPositions; ++p) {
            for (std::int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(p) * std::pow(0.1, static_cast<double>(i));
                cosines.set(p, i, std::cos(angle));
                sines.set(p, i, std::sin(angle));
            }
        }
        for (std::int64_t t = 0; t < s.tokens; ++t) {
            positions.set(t, 0, static_cast<double>((7 * t + 10) % kPositions));
        }
        for (const bool interleaved : {false, true}) {
            Values want;
            for (std::int64_t t = 0; t < s.tokens; ++t) {
                Values row = x.row(t);
                const auto p = static_cast<std::int64_t>(positions.get(t));
                for (std::int64_t h = 0; h < s.heads; ++h) {
                    for (std::int64_t i = 0; i < half; ++i) {
                        const std::int64_t first = h * s.head_dim + (interleaved ? 2 * i : i);
                        const std::int64_t second = first + (interleaved ? 1 : half);
                        double& a = row[static_cast<size_t>(first)];
                        double& b = row[static_cast<size_t>(second)];
                        const double c = cosines.get(p, i), d = sines.get(p, i), old = a;
                        a = old * c - b * d;
                        b = old * d + b * c;
                    }
                }
                append(want, row);
            }
            ASSERT_EQ(
                table().rotary(context_, heads_view(x, s), positions.vector_view(), cosines.view(),
                               sines.view(), interleaved, 0, heads_view(out, s)),
                kKernelOk);
            expect_near(out, want, 3, 1, "rotary");
            // Rotating back in place restores x up to rounding.
            Array in_place = out;
            ASSERT_EQ(table().rotary(context_, heads_view(in_place, s), positions.vector_view(),
                                     cosines.view(), sines.view(), interleaved, 1,
                                     heads_view(in_place, s)),
                      kKernelOk);
            Values original;
            for (std::int64_t t = 0; t < s.tokens; ++t) append(original, x.row(t));
            // The tables are f32, so in f64 cos^2 + sin^2 is 1 only to 2^-23.
            expect_near(in_place, original, dtype() == DType::f64 ? 0x1p32 : 8, 4, "inverse");
        }
    }
}

TEST_P(RowKernels, RotaryRefusesPositionsOutsideTheTables) {
    const RotaryShape s{2, 1, 4, 4, DType::i64};
    for (const double bad : {-1.0, 3.0}) {
        Array x = array(2, 4), out = x, cosines(DType::f32, 3, 2), sines(DType::f32, 3, 2);
        Array positions(DType::i64, 2, 1);
        x.fill_normal(1);
        cosines.fill(1);
        sines.fill(0);
        out.fill(5);
        const Array before = out;
        positions.set(0, 0, 2);
        positions.set(1, 0, bad);
        EXPECT_EQ(table().rotary(context_, heads_view(x, s), positions.vector_view(),
                                 cosines.view(), sines.view(), 0, 0, heads_view(out, s)),
                  kKernelIndexOutOfRange);
        EXPECT_TRUE(out == before);
    }
}

TEST(RowKernelDtypes, OtherDtypesAreRefused) {
    for (const cpu::Isa isa : runnable_isas()) {
        const KernelTable& table = cpu_kernel_table(isa);
        Array x(DType::i32, 2, 4), y(DType::i32, 2, 4);
        EXPECT_EQ(table.softmax({}, x.view(), 0, y.view()), kKernelUnsupportedDtype);
        EXPECT_EQ(table.swiglu({}, x.view(), x.view(), y.view()), kKernelUnsupportedDtype);
        if (isa == cpu::Isa::baseline) continue;
        Array wide(DType::f64, 2, 4), out(DType::f64, 2, 4);
        EXPECT_EQ(table.softmax({}, wide.view(), 0, out.view()), kKernelUnsupportedDtype);
    }
}

}  // namespace
}  // namespace tempra::testing_support
