// Rotary positions and the loss head.
#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

struct Rotation {
    const char* name;
    std::int64_t heads, head_dim, half, row_stride;
};
constexpr Rotation kRotations[] = {{"whole heads", 4, 64, 32, 4 * 64},
                                   {"part of a head", 3, 40, 8, 3 * 40},
                                   {"odd heads", 2, 14, 5, 2 * 14},
                                   {"slices of one buffer", 4, 64, 32, 3 * 4 * 64}};

void check_rotary(Suite& suite, const Rotation& r, DType dtype, int interleaved, int inverse) {
    const std::int64_t tokens = 50, table = 30;
    const auto x = [&](Values values) {
        return strided(dtype, {tokens, r.heads, r.head_dim}, {r.row_stride, r.head_dim, 1}, values);
    };
    const std::string name = std::string("rotary ") + name_of(dtype) + " " + r.name +
                             (interleaved != 0 ? " interleaved" : "") +
                             (inverse != 0 ? " inverse" : "");
    for (const bool in_place : {false, true}) {
        suite.check(
            name + (in_place ? " in place" : ""),
            {x(Values::normal), indices(inverse != 0 ? DType::i32 : DType::i64, tokens, table),
             tensor(DType::f32, {table, r.half}), tensor(DType::f32, {table, r.half}),
             x(Values::normal)},
            tolerance_of(dtype), [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                return k.rotary(c, v[0], v[1], v[2], v[3], interleaved, inverse,
                                in_place ? v[0] : v[4]);
            });
    }
}

struct Loss {
    const char* name;
    std::int64_t tokens = 70, width = 48, vocabulary = 203, chunk_rows = 0;
    bool bias = true, gradients = true, weight_gradient = true, separate = false;
    int accumulate = 1;
    double smoothing = 0, z_loss = 0;
};

const std::vector<Loss>& losses() {
    static const std::vector<Loss> all = {
        {.name = "plain"},
        {.name = "losses alone", .bias = false, .gradients = false},
        {.name = "chunks", .chunk_rows = 16},
        {.name = "chunks, overwriting", .chunk_rows = 32, .accumulate = 0},
        {.name = "smoothing and z loss", .smoothing = 0.1, .z_loss = 1e-2},
        {.name = "a scale per row", .separate = true, .z_loss = 1e-2},
        {.name = "frozen weight", .bias = false, .weight_gradient = false},
        {.name = "wide vocabulary", .tokens = 9, .width = 16, .vocabulary = 9001, .bias = false},
        {.name = "no tokens", .tokens = 0, .accumulate = 0},
    };
    return all;
}

struct Types {
    DType hidden, weight;
};

void check_loss(Suite& suite, const Loss& l, const Types& t) {
    const auto vector = [](std::int64_t size, Values values = Values::normal) {
        return tensor(DType::f32, {size}, values);
    };
    const Operand absent{};
    const bool weighs = l.gradients && l.weight_gradient;
    const std::vector<Operand> operands = {
        tensor(t.hidden, {l.tokens, l.width}, Values::unit),
        tensor(t.weight, {l.vocabulary, l.width}, Values::unit),
        l.bias ? vector(l.vocabulary) : absent,
        indices(DType::i64, l.tokens, l.vocabulary),
        vector(l.tokens, Values::zero),
        vector(l.tokens, Values::zero),
        vector(l.tokens),
        l.gradients ? tensor(t.hidden, {l.tokens, l.width}) : absent,
        weighs ? tensor(DType::f32, {l.vocabulary, l.width}) : absent,
        l.gradients && l.bias ? vector(l.vocabulary) : absent};
    // dlogits are rounded to bf16 by both, from fp32 values that differ in the last bits: a unit in
    // the last place of some terms.
    // In fp16 the CPU's stand-in rounds neither dlogits nor an fp32 weight. Rounding is by 2^-12 of
    // up to 1 in a weight and of a dlogit itself, and the dlogits of a row have a sum of absolute
    // values of at most twice its scale (and a little for z): 0.25, or up to 4 where each row has
    // its own. So gradients of hidden rows are off by up to 2 * 2 * 2^-12 * scale, 2.4e-4 or 4e-3.
    const Tolerance half{1.5e-3, l.separate ? 4e-3 : 1e-3};
    const Tolerance near = t.hidden == DType::bf16  ? Tolerance{1e-2, 4e-3}
                           : t.hidden == DType::f16 ? half
                                                    : Tolerance{5e-5, 2e-4};
    suite.check(std::string("linear_cross_entropy ") + name_of(t.hidden) + "/" + name_of(t.weight) +
                    " " + l.name,
                operands, near, [l](const KernelTable& k, const KernelContext& c, const Views& v) {
                    LinearCrossEntropyArguments a;
                    a.hidden = v[0];
                    a.weight = v[1];
                    a.bias = v[2];
                    a.labels = v[3];
                    a.losses = v[4];
                    a.log_sum_exps = v[5];
                    a.ignore_index = 3;
                    a.chunk_rows = l.chunk_rows;
                    a.label_smoothing = l.smoothing;
                    a.z_loss = l.z_loss;
                    a.grad_scale = 0.25;
                    a.accumulate = l.accumulate;
                    if (l.separate) {  // what the gradients take from an earlier call
                        const KernelStatus status = k.linear_cross_entropy(c, a);
                        if (status != kKernelOk) return status;
                        a.grad_losses = v[6];
                    }
                    a.grad_hidden = v[7];
                    a.grad_weight = v[8];
                    a.grad_bias = v[9];
                    return k.linear_cross_entropy(c, a);
                });
}

void check_faults(Suite& suite) {
    suite.check_fault("linear_cross_entropy: a label out of range",
                      {tensor(DType::f32, {100, 8}), tensor(DType::f32, {10, 8}),
                       indices(DType::i64, 100, 20), tensor(DType::f32, {100}, Values::zero)},
                      "a label is outside the vocabulary",
                      [](const KernelTable& k, const KernelContext& c, const Views& v) {
                          LinearCrossEntropyArguments a;
                          a.hidden = v[0];
                          a.weight = v[1];
                          a.labels = v[2];
                          a.losses = v[3];
                          return k.linear_cross_entropy(c, a);
                      });
    suite.check_fault("rotary: a position out of range",
                      {tensor(DType::f32, {50, 2, 8}), indices(DType::i64, 50, 20),
                       tensor(DType::f32, {10, 4}), tensor(DType::f32, {10, 4})},
                      "a position is outside the tables",
                      [](const KernelTable& k, const KernelContext& c, const Views& v) {
                          return k.rotary(c, v[0], v[1], v[2], v[3], 0, 0, v[0]);
                      });
}

}  // namespace

void check_language(Suite& suite) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const Rotation& r : kRotations) {
            for (const int interleaved : {0, 1}) {
                for (const int inverse : {0, 1})
                    check_rotary(suite, r, dtype, interleaved, inverse);
            }
        }
    }
    constexpr Types kTypes[] = {{DType::f32, DType::f32},
                                {DType::bf16, DType::bf16},
                                {DType::bf16, DType::f32},
                                {DType::f16, DType::f16},
                                {DType::f16, DType::f32}};
    for (const Types& types : kTypes) {
        for (const Loss& l : losses()) check_loss(suite, l, types);
    }
    if (suite.backend().context().stream != nullptr)
        check_faults(suite);  // the CPU refuses at once
}

}  // namespace tempra::cuda::parity
