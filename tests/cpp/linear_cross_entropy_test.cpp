// Linear cross-entropy on every ISA against a plain loop in double: losses, gradients, chunking,
// label smoothing, z-loss, ignored rows, accumulation, recomputation, errors.
#include <cmath>
#include <limits>
#include <optional>

#include "kernel_array.h"
#include "tempra/threads.h"

namespace tempra::testing_support {
namespace {

using Values = std::vector<double>;

struct Options {
    std::int64_t tokens = 37, width = 24, vocabulary = 65;
    bool with_bias = true;
    double smoothing = 0, z_loss = 0;
    float grad_scale = 0.125F;
    std::int64_t chunk_rows = 0;
    DType label_dtype = DType::i64;
    double logit_scale = 1;
};

struct LossRun {
    Options o;
    Array hidden, weight, bias, labels, losses, lse, grad_losses, dhidden, dweight, dbias;
    LinearCrossEntropyArguments arguments;

    LossRun(const KernelCase& c, const Options& options)
        : o(options),
          hidden(c.dtype, o.tokens, o.width),
          weight(c.dtype, o.vocabulary, o.width),
          bias(c.wide(), 1, o.vocabulary),
          labels(o.label_dtype, o.tokens, 1, 0),
          losses(c.wide(), o.tokens, 1, 0),
          lse(c.wide(), o.tokens, 1, 0),
          grad_losses(c.wide(), o.tokens, 1, 0),
          dhidden(c.dtype, o.tokens, o.width),
          dweight(c.wide(), o.vocabulary, o.width),
          dbias(c.wide(), 1, o.vocabulary) {
        hidden.fill_normal(1, 0, o.logit_scale);
        weight.fill_normal(2, 0, 0.5);
        bias.fill_normal(3);
        grad_losses.fill_normal(4);
        dweight.fill(0);
        dbias.fill(0);
        for (std::int64_t t = 0; t < o.tokens; ++t) {
            labels.set(t, 0, t % 5 == 3 ? -100.0 : static_cast<double>((t * 31) % o.vocabulary));
        }
    }
    // Views are taken here, after any copy of the run.
    LinearCrossEntropyArguments& bind(bool gradients = true) {
        arguments.hidden = hidden.view();
        arguments.weight = weight.view();
        if (o.with_bias) arguments.bias = bias.vector_view();
        arguments.labels = labels.vector_view();
        arguments.losses = losses.vector_view();
        arguments.log_sum_exps = lse.vector_view();
        if (gradients) {
            arguments.grad_hidden = dhidden.view();
            arguments.grad_weight = dweight.view();
            if (o.with_bias) arguments.grad_bias = dbias.vector_view();
        }
        arguments.chunk_rows = o.chunk_rows;
        arguments.label_smoothing = o.smoothing;
        arguments.z_loss = o.z_loss;
        arguments.grad_scale = o.grad_scale;
        return arguments;
    }
};

struct Reference {
    Values losses, lse, dhidden, dweight, dbias;
    Values dbias_terms;  // sums of |terms|: what the roundings of cancelling terms are relative to

    // Row t's gradient is scaled by scales[t].
    Reference(const LossRun& run, const Values& scales, std::int64_t ignore_index = -100)
        : dweight(static_cast<size_t>(run.o.vocabulary * run.o.width)),
          dbias(static_cast<size_t>(run.o.vocabulary)),
          dbias_terms(dbias) {
        const auto vocabulary = static_cast<size_t>(run.o.vocabulary);
        const auto width = static_cast<size_t>(run.o.width);
        const double eps = run.o.smoothing;
        const double z = run.o.z_loss;
        std::vector<Values> weight;
        for (std::int64_t v = 0; v < run.o.vocabulary; ++v) weight.push_back(run.weight.row(v));
        for (std::int64_t t = 0; t < run.o.tokens; ++t) {
            const Values h = run.hidden.row(t);
            Values logits(vocabulary);
            double largest = -std::numeric_limits<double>::infinity(), total = 0, mean = 0;
            for (size_t v = 0; v < vocabulary; ++v) {
                if (run.o.with_bias) logits[v] = run.bias.get(0, static_cast<std::int64_t>(v));
                for (size_t i = 0; i < width; ++i) logits[v] += h[i] * weight[v][i];
                largest = std::max(largest, logits[v]);
                mean += logits[v] / static_cast<double>(vocabulary);
            }
            for (const double x : logits) total += std::exp(x - largest);
            const double l = largest + std::log(total);
            lse.push_back(l);
            const auto label = static_cast<std::int64_t>(run.labels.get(t));
            const bool ignored = label == ignore_index;
            losses.push_back(ignored ? 0
                                     : (1 - eps) * (l - logits[static_cast<size_t>(label)]) +
                                           eps * (l - mean) + z * l * l);
            Values dh(width);
            for (size_t v = 0; v < vocabulary && !ignored; ++v) {
                const double target = static_cast<std::int64_t>(v) == label ? 1 - eps : 0;
                const double d = scales[static_cast<size_t>(t)] *
                                 (std::exp(logits[v] - l) * (1 + 2 * z * l) - target -
                                  eps / static_cast<double>(vocabulary));
                dbias[v] += d;
                dbias_terms[v] += std::abs(d);
                for (size_t i = 0; i < width; ++i) {
                    dh[i] += d * weight[v][i];
                    dweight[v * width + i] += d * h[i];
                }
            }
            dhidden.insert(dhidden.end(), dh.begin(), dh.end());
        }
    }
};

double largest_of(const Values& values) {
    double largest = 0;
    for (const double v : values) largest = std::max(largest, std::abs(v));
    return largest;
}

// bf16 gradients of the logits are rounded to bf16 between the products, so even the f32 sums of
// bf16 runs carry bf16 roundings; `wide_roundings` allows for them.
void expect_gradients(const KernelCase& c, const LossRun& run, const Reference& want,
                      double multiple = 1) {
    const double wide_roundings = (c.dtype == DType::bf16 ? 0x1p15 * 4 : 64);
    Values dweight = want.dweight, dbias = want.dbias;
    for (double& v : dweight) v *= multiple;
    for (double& v : dbias) v *= multiple;
    expect_near(run.dhidden, want.dhidden, 64, largest_of(want.dhidden) / 4, "dhidden");
    expect_near(run.dweight, dweight, wide_roundings, largest_of(dweight) / 4, "dweight");
    if (run.o.with_bias) {
        expect_near(run.dbias, dbias, wide_roundings / 4, multiple * largest_of(want.dbias_terms),
                    "dbias");
    }
}

class LinearCrossEntropy : public testing::TestWithParam<KernelCase> {
  protected:
    [[nodiscard]] const KernelTable& table() const { return GetParam().table(); }
};

INSTANTIATE_TEST_SUITE_P(EveryIsa, LinearCrossEntropy, testing::ValuesIn(kernel_cases()),
                         kernel_case_name);

std::vector<Options> option_grid() {
    std::vector<Options> grid;
    for (const std::int64_t vocabulary : {1, 3, 17, 65, 1000}) {
        Options o;
        o.vocabulary = vocabulary;
        grid.push_back(o);
        o.smoothing = 0.1;
        o.z_loss = 1e-2;
        o.chunk_rows = 16;
        o.label_dtype = DType::i32;
        grid.push_back(o);
    }
    Options o;
    o.with_bias = false;
    o.smoothing = 1;
    o.width = 33;
    o.chunk_rows = 1;
    grid.push_back(o);
    o = Options{};
    o.vocabulary = 512;  // the row stride is padded away from this
    o.tokens = 130;
    o.chunk_rows = 64;
    grid.push_back(o);
    return grid;
}

TEST_P(LinearCrossEntropy, LossesAndGradients) {
    for (const Options& o : option_grid()) {
        SCOPED_TRACE(testing::Message()
                     << "vocabulary " << o.vocabulary << " chunk " << o.chunk_rows);
        LossRun run(GetParam(), o);
        ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
        const Reference want(run, Values(static_cast<size_t>(o.tokens), 0.125));
        // Losses are f32 for bf16 inputs too: products of bf16 are exact in f32.
        expect_near(run.losses, want.losses, 64, 2, "losses");
        expect_near(run.lse, want.lse, 64, 2, "log_sum_exps");
        expect_gradients(GetParam(), run, want);
    }
}

TEST_P(LinearCrossEntropy, ForwardAloneGivesTheSameLosses) {
    Options o;
    o.smoothing = 0.2;
    LossRun both(GetParam(), o), forward(GetParam(), o);
    ASSERT_EQ(table().linear_cross_entropy({}, both.bind()), kKernelOk);
    const Array untouched = forward.dhidden;
    ASSERT_EQ(table().linear_cross_entropy({}, forward.bind(false)), kKernelOk);
    EXPECT_TRUE(forward.losses == both.losses);
    EXPECT_TRUE(forward.lse == both.lse);
    EXPECT_TRUE(forward.dhidden == untouched);
}

TEST_P(LinearCrossEntropy, RecomputesFromLogSumExps) {
    Options o;
    o.smoothing = 0.1;
    o.z_loss = 1e-2;
    o.chunk_rows = 16;
    LossRun run(GetParam(), o);
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind(false)), kKernelOk);
    const Array losses = run.losses, lse = run.lse;
    run.bind().grad_losses = run.grad_losses.vector_view();
    run.losses.fill(77);  // not written again
    const Array marked = run.losses;
    ASSERT_EQ(table().linear_cross_entropy({}, run.arguments), kKernelOk);
    Values scales;
    for (std::int64_t t = 0; t < o.tokens; ++t) scales.push_back(run.grad_losses.get(t));
    expect_gradients(GetParam(), run, Reference(run, scales));
    EXPECT_TRUE(run.lse == lse);
    EXPECT_TRUE(run.losses == marked);
}

TEST_P(LinearCrossEntropy, AccumulatesOrOverwrites) {
    Options o;
    o.chunk_rows = 16;
    LossRun run(GetParam(), o);
    const Values scales(static_cast<size_t>(o.tokens), 0.125);
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
    const Reference want(run, scales);
    expect_gradients(GetParam(), run, want, 2);
    run.bind().accumulate = 0;
    ASSERT_EQ(table().linear_cross_entropy({}, run.arguments), kKernelOk);
    expect_gradients(GetParam(), run, want);
}

TEST_P(LinearCrossEntropy, F32WeightsAreRoundedToBf16) {
    if (GetParam().dtype != DType::bf16) GTEST_SKIP() << "only bf16 has another dtype of weights";
    Options o;
    o.chunk_rows = 16;
    LossRun rounded(GetParam(), o), wide(GetParam(), o);
    wide.weight = Array(DType::f32, o.vocabulary, o.width);
    wide.weight.fill_normal(9, 0, 0.5);
    for (std::int64_t v = 0; v < o.vocabulary; ++v) {
        for (std::int64_t i = 0; i < o.width; ++i) rounded.weight.set(v, i, wide.weight.get(v, i));
    }
    ASSERT_EQ(table().linear_cross_entropy({}, rounded.bind()), kKernelOk);
    ASSERT_EQ(table().linear_cross_entropy({}, wide.bind()), kKernelOk);
    for (std::int64_t t = 0; t < o.tokens; ++t) {
        EXPECT_EQ(rounded.losses.get(t), wide.losses.get(t));
        EXPECT_EQ(rounded.dhidden.row(t), wide.dhidden.row(t));
    }
    for (std::int64_t v = 0; v < o.vocabulary; ++v) {
        EXPECT_EQ(rounded.dweight.row(v), wide.dweight.row(v));
    }
}

TEST_P(LinearCrossEntropy, AllRowsIgnored) {
    LossRun run(GetParam(), {});
    run.labels.fill(-100);
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
    const Reference want(run, Values(static_cast<size_t>(run.o.tokens), 0.125));
    EXPECT_EQ(largest_of(want.losses) + largest_of(want.dweight), 0);
    expect_near(run.losses, want.losses, 0, 0, "losses");
    expect_near(run.dhidden, want.dhidden, 0, 0, "dhidden");
    expect_near(run.dweight, want.dweight, 0, 0, "dweight");
}

// ignore_index may be a valid class.
TEST_P(LinearCrossEntropy, IgnoreIndexInsideTheVocabulary) {
    Options o;
    LossRun run(GetParam(), o);
    for (std::int64_t t = 0; t < o.tokens; ++t) run.labels.set(t, 0, static_cast<double>(t % 3));
    run.bind().ignore_index = 1;
    ASSERT_EQ(table().linear_cross_entropy({}, run.arguments), kKernelOk);
    const Reference want(run, Values(static_cast<size_t>(o.tokens), 0.125), 1);
    expect_near(run.losses, want.losses, 64, 2, "losses");
    expect_gradients(GetParam(), run, want);
}

TEST_P(LinearCrossEntropy, LabelsOutsideTheVocabularyAreRefusedBeforeWriting) {
    for (const double bad : {-1.0, 65.0, -101.0}) {
        LossRun run(GetParam(), {});
        run.labels.set(36, 0, bad);
        run.losses.fill(5);
        run.dhidden.fill(5);
        const Array losses = run.losses, dhidden = run.dhidden, dweight = run.dweight;
        EXPECT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelIndexOutOfRange);
        EXPECT_TRUE(run.losses == losses && run.dhidden == dhidden && run.dweight == dweight);
    }
}

TEST_P(LinearCrossEntropy, ExtremeLogits) {
    Options o;
    o.logit_scale = 300;  // logits of some thousands
    LossRun run(GetParam(), o);
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
    const Reference want(run, Values(static_cast<size_t>(o.tokens), 0.125));
    expect_near(run.losses, want.losses, 64, 1000, "losses");
    EXPECT_TRUE(run.dhidden.guards_intact());
    for (std::int64_t t = 0; t < o.tokens; ++t) EXPECT_TRUE(std::isfinite(run.dhidden.get(t, 0)));
}

TEST_P(LinearCrossEntropy, NonFiniteRowsShowInTheirLossAlone) {
    LossRun run(GetParam(), {});
    run.hidden.set(1, 0, std::numeric_limits<double>::quiet_NaN());
    run.hidden.set(2, 0, std::numeric_limits<double>::infinity());
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind(false)), kKernelOk);
    EXPECT_TRUE(std::isnan(run.losses.get(1)));
    EXPECT_FALSE(std::isfinite(run.losses.get(2)));
    for (const std::int64_t t : {0, 4, 36}) EXPECT_TRUE(std::isfinite(run.losses.get(t))) << t;
}

TEST_P(LinearCrossEntropy, PartOfTheGradients) {
    LossRun all(GetParam(), {}), hidden_only(GetParam(), {}), weight_only(GetParam(), {});
    ASSERT_EQ(table().linear_cross_entropy({}, all.bind()), kKernelOk);
    hidden_only.bind(false).grad_hidden = hidden_only.dhidden.view();
    ASSERT_EQ(table().linear_cross_entropy({}, hidden_only.arguments), kKernelOk);
    EXPECT_TRUE(hidden_only.dhidden == all.dhidden);
    weight_only.bind(false).grad_weight = weight_only.dweight.view();
    ASSERT_EQ(table().linear_cross_entropy({}, weight_only.arguments), kKernelOk);
    EXPECT_TRUE(weight_only.dweight == all.dweight);
}

TEST_P(LinearCrossEntropy, NoTokens) {
    Options o;
    o.tokens = 0;
    LossRun run(GetParam(), o);
    run.dweight.fill(3);
    const Array before = run.dweight;
    ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
    EXPECT_TRUE(run.dweight == before);
    run.arguments.accumulate = 0;
    ASSERT_EQ(table().linear_cross_entropy({}, run.arguments), kKernelOk);
    EXPECT_EQ(run.dweight.get(0, 0), 0);
    EXPECT_EQ(run.dweight.get(64, 23), 0);
}

TEST_P(LinearCrossEntropy, ResultsDoNotDependOnTheNumberOfThreads) {
    const int before = num_threads();
    Options o;
    o.tokens = 300;
    o.vocabulary = 1030;
    o.chunk_rows = 128;
    std::optional<LossRun> first;
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        LossRun run(GetParam(), o);
        ASSERT_EQ(table().linear_cross_entropy({}, run.bind()), kKernelOk);
        if (!first) {
            first.emplace(run);
            continue;
        }
        EXPECT_TRUE(run.losses == first->losses && run.lse == first->lse &&
                    run.dhidden == first->dhidden && run.dweight == first->dweight &&
                    run.dbias == first->dbias)
            << threads << " threads";
    }
    set_num_threads(before);
}

}  // namespace
}  // namespace tempra::testing_support
