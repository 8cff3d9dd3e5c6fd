// Layer norm and RMS norm on every ISA against plain references in double: values, gradients, large
// means, non-finite rows, accumulation and independence of the number of threads.
#include <cmath>
#include <limits>
#include <optional>

#include "kernel_array.h"
#include "tempra/threads.h"

namespace tempra::testing_support {
namespace {

using Values = std::vector<double>;
using Real = long double;  // so that the reference is better than the f64 kernels it judges

// What one call reads and writes; `rms` leaves mean and bias out.
struct NormRun {
    Array x, dy, weight, bias, y, mean, rstd, dx, dweight, dbias;
    bool rms, affine;

    NormRun(const KernelCase& c, DType parameters, std::int64_t rows, std::int64_t columns,
            bool rms_norm, bool has_parameters)
        : x(c.dtype, rows, columns),
          dy(c.dtype, rows, columns, 5),
          weight(parameters, 1, columns),
          bias(parameters, 1, columns),
          y(c.dtype, rows, columns, 1),
          mean(c.wide(), rows, 1, 0),
          rstd(c.wide(), rows, 1, 0),
          dx(c.dtype, rows, columns, 2),
          dweight(c.wide(), 1, columns),
          dbias(c.wide(), 1, columns),
          rms(rms_norm),
          affine(has_parameters) {
        x.fill_normal(1, 0.5, 2);
        dy.fill_normal(2);
        weight.fill_normal(3, 1, 0.3);
        bias.fill_normal(4);
        dweight.fill(0);
        dbias.fill(0);
    }
    void forward(const KernelTable& table, double epsilon = 1e-5) {
        const TensorView w = affine ? weight.vector_view() : TensorView{};
        const TensorView b = affine ? bias.vector_view() : TensorView{};
        const KernelStatus status =
            rms ? table.rms_norm({}, x.view(), w, epsilon, y.view(), rstd.vector_view())
                : table.layer_norm({}, x.view(), w, b, epsilon, y.view(), mean.vector_view(),
                                   rstd.vector_view());
        ASSERT_EQ(status, kKernelOk);
    }
    void backward(const KernelTable& table) {
        const TensorView w = affine ? weight.vector_view() : TensorView{};
        const TensorView dw = affine ? dweight.vector_view() : TensorView{};
        const TensorView db = affine ? dbias.vector_view() : TensorView{};
        const KernelStatus status =
            rms ? table.rms_norm_backward({}, dy.view(), x.view(), w, rstd.vector_view(), dx.view(),
                                          dw)
                : table.layer_norm_backward({}, dy.view(), x.view(), w, mean.vector_view(),
                                            rstd.vector_view(), dx.view(), dw, db);
        ASSERT_EQ(status, kKernelOk);
    }
};

struct NormReference {
    Values y, mean, rstd, dx, dweight, dbias;

    explicit NormReference(const NormRun& run, double epsilon = 1e-5)
        : dweight(static_cast<size_t>(run.x.columns())), dbias(dweight) {
        const auto n = static_cast<size_t>(run.x.columns());
        const Real count = static_cast<Real>(n);
        for (std::int64_t r = 0; r < run.x.rows(); ++r) {
            const Values x = run.x.row(r), dy = run.dy.row(r);
            Real m = 0, variance = 0;
            if (!run.rms) {
                for (const Real v : x) m += v / count;
            }
            for (const Real v : x) variance += (v - m) * (v - m) / count;
            const Real s = 1 / std::sqrt(variance + epsilon);
            Real mean_g = 0, mean_gx = 0;
            for (size_t c = 0; c < n; ++c) {
                const auto column = static_cast<std::int64_t>(c);
                const double w = run.affine ? run.weight.get(0, column) : 1;
                const double b = run.affine && !run.rms ? run.bias.get(0, column) : 0;
                const Real xhat = (x[c] - m) * s;
                y.push_back(static_cast<double>(xhat * w + b));
                if (!run.rms) mean_g += dy[c] * w / count;
                mean_gx += dy[c] * w * xhat / count;
                dweight[c] += static_cast<double>(dy[c] * xhat);
                dbias[c] += dy[c];
            }
            for (size_t c = 0; c < n; ++c) {
                const double w = run.affine ? run.weight.get(0, static_cast<std::int64_t>(c)) : 1;
                dx.push_back(
                    static_cast<double>(s * (dy[c] * w - mean_g - (x[c] - m) * s * mean_gx)));
            }
            mean.push_back(static_cast<double>(m));
            rstd.push_back(static_cast<double>(s));
        }
    }
};

class NormKernels : public testing::TestWithParam<KernelCase> {
  protected:
    [[nodiscard]] const KernelTable& table() const { return GetParam().table(); }
};

INSTANTIATE_TEST_SUITE_P(EveryIsa, NormKernels, testing::ValuesIn(kernel_cases()),
                         kernel_case_name);

TEST_P(NormKernels, ValuesAndGradients) {
    const KernelCase& c = GetParam();
    for (const bool rms : {false, true}) {
        for (const std::int64_t columns : {1, 3, 17, 65, 1000}) {
            for (const DType parameters : {c.dtype, DType::f32}) {
                for (const bool affine : {true, false}) {
                    NormRun run(c, parameters, 19, columns, rms, affine);
                    run.forward(table());
                    run.backward(table());
                    const NormReference want(run);
                    const std::string what = std::string(rms ? "rms " : "layer ") +
                                             std::to_string(columns) + (affine ? " affine" : "");
                    // A one-element row has variance 0, which multiplies every error by 1 /
                    // sqrt(eps).
                    const double scale = columns == 1 ? 300 : 1;
                    expect_near(run.y, want.y, 16, scale, what + " y");
                    if (!rms) expect_near(run.mean, want.mean, 16, 1, what + " mean");
                    expect_near(run.rstd, want.rstd, 16, 0, what + " rstd");
                    expect_near(run.dx, want.dx, 16, scale * 3, what + " dx");
                    if (affine) {
                        expect_near(run.dweight, want.dweight, 64, 2 * scale, what + " dweight");
                        if (!rms) expect_near(run.dbias, want.dbias, 64, 2, what + " dbias");
                    }
                }
            }
        }
    }
}

// Enough rows for several partial sums.
TEST_P(NormKernels, ParameterGradientsOverManyRows) {
    const KernelCase& c = GetParam();
    for (const bool rms : {false, true}) {
        NormRun run(c, c.dtype, 2111, 129, rms, true);
        run.forward(table());
        run.backward(table());
        const NormReference want(run);
        // Sums of 2111 terms of about 1, whatever cancels.
        expect_near(run.dweight, want.dweight, 64, 100, "dweight");
        if (!rms) expect_near(run.dbias, want.dbias, 64, 100, "dbias");
    }
}

// E[x^2] - E[x]^2 would lose everything here.
TEST_P(NormKernels, LargeMeansKeepTheVariance) {
    const KernelCase& c = GetParam();
    if (c.dtype == DType::bf16) {
        // bf16 has no room for a small deviation beside a large mean; values are exact steps
        // instead.
        NormRun run(c, c.dtype, 3, 65, false, false);
        for (std::int64_t i = 0; i < 65; ++i)
            run.x.set(1, i, 1024 + 8.0 * static_cast<double>(i % 3));
        run.forward(table());
        expect_near(run.rstd, NormReference(run).rstd, 16, 0, "rstd");
        return;
    }
    for (const std::int64_t columns : {17, 1000}) {
        NormRun run(c, c.dtype, 4, columns, false, false);
        run.x.fill_normal(5, 4096, 1);
        run.forward(table());
        const NormReference want(run);
        // The mean is off by up to 2^-24 * 4096 * (summation roundings); the variance by its
        // square.
        expect_near(run.rstd, want.rstd, 64, 0, "rstd");
        expect_near(run.y, want.y, 16, 4096, "y");
    }
}

TEST_P(NormKernels, NonFiniteRowsStayAlone) {
    const KernelCase& c = GetParam();
    for (const bool rms : {false, true}) {
        NormRun run(c, c.dtype, 4, 65, rms, true);
        run.x.set(1, 64, std::numeric_limits<double>::infinity());
        run.x.set(2, 3, std::numeric_limits<double>::quiet_NaN());
        run.forward(table());
        for (std::int64_t column = 0; column < 65; ++column) {
            EXPECT_TRUE(std::isfinite(run.y.get(0, column)));
            EXPECT_TRUE(std::isfinite(run.y.get(3, column)));
            EXPECT_TRUE(std::isnan(run.y.get(2, column)));
        }
        EXPECT_TRUE(std::isnan(run.y.get(1, 64)));
    }
}

TEST_P(NormKernels, ParameterGradientsAreAddedTo) {
    const KernelCase& c = GetParam();
    for (const bool rms : {false, true}) {
        NormRun run(c, c.dtype, 40, 33, rms, true);
        run.forward(table());
        run.backward(table());
        Values twice, twice_bias;
        for (std::int64_t i = 0; i < 33; ++i) {
            twice.push_back(2 * run.dweight.get(0, i));
            twice_bias.push_back(2 * run.dbias.get(0, i));
        }
        run.backward(table());
        expect_near(run.dweight, twice, 1, 0, "dweight");
        expect_near(run.dbias, twice_bias, 1, 0, "dbias");
    }
}

TEST_P(NormKernels, AbsentGradientsAreSkipped) {
    const KernelCase& c = GetParam();
    NormRun all(c, c.dtype, 40, 33, false, true);
    all.forward(table());
    all.backward(table());
    NormRun bias_only(c, c.dtype, 40, 33, false, true);
    bias_only.forward(table());
    ASSERT_EQ(table().layer_norm_backward(
                  {}, bias_only.dy.view(), bias_only.x.view(), bias_only.weight.vector_view(),
                  bias_only.mean.vector_view(), bias_only.rstd.vector_view(), {}, {},
                  bias_only.dbias.vector_view()),
              kKernelOk);
    EXPECT_TRUE(bias_only.dbias == all.dbias);
}

TEST_P(NormKernels, ResultsDoNotDependOnTheNumberOfThreads) {
    const KernelCase& c = GetParam();
    const int before = num_threads();
    for (const bool rms : {false, true}) {
        std::optional<NormRun> first;
        for (const int threads : {1, 2, 3}) {
            set_num_threads(threads);
            NormRun run(c, c.dtype, 2111, 129, rms, true);
            run.forward(table());
            run.backward(table());
            if (!first) {
                first.emplace(run);
                continue;
            }
            EXPECT_TRUE(run.y == first->y && run.rstd == first->rstd && run.dx == first->dx &&
                        run.dweight == first->dweight && run.dbias == first->dbias)
                << threads << " threads";
        }
    }
    set_num_threads(before);
}

TEST_P(NormKernels, EmptyInputs) {
    const KernelCase& c = GetParam();
    for (const bool rms : {false, true}) {
        NormRun run(c, c.dtype, 0, 5, rms, true);
        const Array before = run.dweight;
        run.forward(table());
        run.backward(table());
        EXPECT_TRUE(run.dweight == before);
    }
}

}  // namespace
}  // namespace tempra::testing_support
