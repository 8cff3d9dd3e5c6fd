#include <cstring>

#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

struct Types {
    DType a, b, c;
};
constexpr Types kTypes[] = {
    {DType::f32, DType::f32, DType::f32},   {DType::bf16, DType::bf16, DType::bf16},
    {DType::bf16, DType::bf16, DType::f32}, {DType::bf16, DType::f32, DType::bf16},
    {DType::bf16, DType::f32, DType::f32},  {DType::f16, DType::f16, DType::f16},
    {DType::f16, DType::f16, DType::f32},   {DType::f16, DType::f32, DType::f16},
    {DType::f16, DType::f32, DType::f32}};

// Rows of packs, and nothing of the sort.
struct Shape {
    std::int64_t m, n, k;
};
constexpr Shape kShapes[] = {{72, 136, 200}, {5, 7, 3}, {1, 48, 33}};

// Sums of k terms in another order; beside bf16 results bias and what GELU is taken of may be
// rounded once more or once less: half a unit in the last place of values around 4.
Tolerance tolerance(const Types& types) {
    if (types.a == DType::f16) return {2e-3, 3e-3};
    return types.c == DType::bf16 ? Tolerance{1.6e-2, 2e-2} : Tolerance{2e-5, 4e-4};
}

std::string title(const Types& types, const Shape& shape, const std::string& what) {
    return std::string("gemm ") + name_of(types.a) + "*" + name_of(types.b) + "=" +
           name_of(types.c) + " " + std::to_string(shape.m) + "x" + std::to_string(shape.n) + "x" +
           std::to_string(shape.k) + " " + what;
}

Operand matrix(DType dtype, std::int64_t rows, std::int64_t columns, bool transposed = false) {
    return transposed ? strided(dtype, {rows, columns}, {1, rows}) : tensor(dtype, {rows, columns});
}

// An fp32 b beside fp16 is rounded by the device and not by the CPU's stand-in: it has numbers of
// both.
Operand b_beside(DType a, Operand b) {
    if (a != DType::f16 || b.view.dtype != DType::f32) return b;
    for (std::size_t i = 0; i < b.bytes.size(); i += 4) {
        float x;
        std::memcpy(&x, &b.bytes[i], 4);
        x = float16::from_float(x).to_float();
        std::memcpy(&b.bytes[i], &x, 4);
    }
    return b;
}

// Operands in the order a, b, c, bias, residual, pre_activation, activation_input.
struct Parts {
    bool bias = false, bias_is_f32 = false, residual = false, keeps_input = false,
         is_backward = false, accumulates = false;
    Activation activation = Activation::none;
};

const Operand kAbsent{};

void check_parts(Suite& suite, const Types& types, const Shape& s, const std::string& what,
                 const Parts& parts) {
    const auto c_like = [&](bool present) {
        return present ? tensor(types.c, {s.m, s.n}) : kAbsent;
    };
    const DType bias = parts.bias_is_f32 ? DType::f32 : types.a;
    suite.check(title(types, s, what),
                {matrix(types.a, s.m, s.k), b_beside(types.a, matrix(types.b, s.k, s.n, true)),
                 c_like(true), parts.bias ? tensor(bias, {s.n}) : kAbsent, c_like(parts.residual),
                 c_like(parts.keeps_input), c_like(parts.is_backward)},
                tolerance(types),
                [parts](const KernelTable& k, const KernelContext& context, const Views& v) {
                    GemmArguments g;
                    g.a = v[0];
                    g.b = v[1];
                    g.c = v[2];
                    g.bias = v[3];
                    g.residual = v[4];
                    g.pre_activation = v[5];
                    g.activation_input = v[6];
                    g.activation = parts.activation;
                    g.accumulate = parts.accumulates ? 1 : 0;
                    return k.gemm(context, g);
                });
}

void check_epilogues(Suite& suite, const Types& types, const Shape& shape) {
    const auto check = [&](const std::string& what, const Parts& parts) {
        check_parts(suite, types, shape, what, parts);
    };
    check("plain", {});
    check("bias", {.bias = true});
    check("f32 bias", {.bias = true, .bias_is_f32 = true});
    check("residual", {.bias = true, .residual = true});
    check("accumulate", {.accumulates = true});
    check("residual and accumulate", {.residual = true, .accumulates = true});
    check("kept without activation", {.bias = true, .keeps_input = true});
    constexpr Activation kActivations[] = {Activation::relu, Activation::silu, Activation::gelu,
                                           Activation::gelu_tanh};
    constexpr const char* kNames[] = {"relu", "silu", "gelu", "gelu_tanh"};
    for (int i = 0; i < 4; ++i) {
        const std::string name = kNames[i];
        const Activation activation = kActivations[i];
        check(name, {.activation = activation});
        check(name + " bias kept",
              {.bias = true, .bias_is_f32 = true, .keeps_input = true, .activation = activation});
        check(name + " bias kept residual",
              {.bias = true, .residual = true, .keeps_input = true, .activation = activation});
        check(name + " backward", {.is_backward = true, .activation = activation});
    }
}

Call product() {
    return [](const KernelTable& k, const KernelContext& context, const Views& v) {
        GemmArguments g;
        g.a = v[0];
        g.b = v[1];
        g.c = v[2];
        return k.gemm(context, g);
    };
}

void check_layouts(Suite& suite, const Types& types, const Shape& s) {
    for (const bool a : {false, true}) {
        for (const bool b : {false, true}) {
            suite.check(
                title(types, s, std::string(a ? "a^T " : "a ") + (b ? "b^T" : "b")),
                {matrix(types.a, s.m, s.k, a), b_beside(types.a, matrix(types.b, s.k, s.n, b)),
                 strided(types.c, {s.m, s.n}, {s.n + 8, 1})},
                tolerance(types), product());
        }
    }
    suite.check(title(types, s, "strided both ways"),
                {strided(types.a, {s.m, s.k}, {3 * s.k, 3}),
                 b_beside(types.a, strided(types.b, {s.k, s.n}, {2, 5 * s.k})),
                 tensor(types.c, {s.m, s.n})},
                tolerance(types), product());
    suite.check(title(types, s, "the same row everywhere"),
                {strided(types.a, {s.m, s.k}, {0, 1}), b_beside(types.a, matrix(types.b, s.k, s.n)),
                 tensor(types.c, {s.m, s.n})},
                tolerance(types), product());
    suite.check(title(types, s, "batches"),
                {tensor(types.a, {3, s.m, s.k}), b_beside(types.a, tensor(types.b, {3, s.k, s.n})),
                 tensor(types.c, {3, s.m, s.n})},
                tolerance(types), product());
    suite.check(title(types, s, "batches of one b^T"),
                {tensor(types.a, {3, s.m, s.k}),
                 b_beside(types.a, strided(types.b, {3, s.k, s.n}, {0, 1, s.k})),
                 tensor(types.c, {3, s.m, s.n})},
                tolerance(types), product());
    suite.check(title(types, s, "without terms"),
                {strided(types.a, {s.m, 0}, {1, 1}), strided(types.b, {0, s.n}, {1, 1}),
                 tensor(types.c, {s.m, s.n})},
                tolerance(types), product());
}

}  // namespace

void check_gemm(Suite& suite) {
    for (const Types& types : kTypes) {
        for (const Shape& shape : kShapes) {
            check_epilogues(suite, types, shape);
            check_layouts(suite, types, shape);
        }
    }
}

}  // namespace tempra::cuda::parity
