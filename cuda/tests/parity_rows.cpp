#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

struct Shape {
    std::int64_t rows, columns;
};
// A single column, rows off 16 bytes, a model's width, rows too wide for shared sums, a vocabulary.
constexpr Shape kShapes[] = {{3, 1}, {17, 5}, {600, 768}, {5, 8200}, {3, 50304}};

struct Types {
    DType data, parameters;
};
constexpr Types kTypes[] = {{DType::f32, DType::f32},
                            {DType::bf16, DType::bf16},
                            {DType::bf16, DType::f32},
                            {DType::f16, DType::f16},
                            {DType::f16, DType::f32}};

std::string title(const std::string& kernel, Types types, Shape shape) {
    return kernel + " " + name_of(types.data) + "/" + name_of(types.parameters) + " " +
           std::to_string(shape.rows) + "x" + std::to_string(shape.columns);
}

void check_softmax(Suite& suite, Types types, Shape shape) {
    if (types.data != types.parameters) return;
    const DType t = types.data;
    const auto matrix = [&](Values values) {
        return tensor(t, {shape.rows, shape.columns}, values);
    };
    for (const int logarithm : {0, 1}) {
        const std::string name = logarithm != 0 ? "log_softmax" : "softmax";
        suite.check(title(name, types, shape), {matrix(Values::normal), matrix(Values::zero)},
                    tolerance_of(t, kFloatSum),
                    [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                        return k.softmax(c, v[0], logarithm, v[1]);
                    });
        suite.check(title(name + "_backward", types, shape),
                    {matrix(Values::unit), matrix(Values::unit), matrix(Values::zero)},
                    t == DType::bf16  ? Tolerance{1e-2, 2e-2}
                    : t == DType::f16 ? Tolerance{2e-3, 1e-3}
                                      : Tolerance{2e-5, 5e-4},
                    [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                        return k.softmax_backward(c, v[0], v[1], logarithm, v[2]);
                    });
    }
}

void check_layer_norm(Suite& suite, Types types, Shape shape) {
    const auto matrix = [&](Values values) {
        return tensor(types.data, {shape.rows, shape.columns}, values);
    };
    const auto parameter = [&] { return tensor(types.parameters, {shape.columns}); };
    const auto statistic = [&](Values values) { return tensor(DType::f32, {shape.rows}, values); };
    const auto sums = [&] { return tensor(DType::f32, {shape.columns}); };
    const Tolerance near = tolerance_of(types.data, {2e-5, 5e-5});
    suite.check(title("layer_norm", types, shape),
                {matrix(Values::normal), parameter(), parameter(), matrix(Values::zero),
                 statistic(Values::zero), statistic(Values::zero)},
                near, [](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.layer_norm(c, v[0], v[1], v[2], 1e-5, v[3], v[4], v[5]);
                });
    // Gradients of parameters add up `rows` terms.
    suite.check(
        title("layer_norm_backward", types, shape),
        {matrix(Values::normal), matrix(Values::normal), parameter(), statistic(Values::unit),
         statistic(Values::positive), matrix(Values::zero), sums(), sums()},
        tolerance_of(types.data, {5e-5, 5e-4}),
        [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.layer_norm_backward(c, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
        });
}

void check_rms_norm(Suite& suite, Types types, Shape shape) {
    const auto matrix = [&](Values values) {
        return tensor(types.data, {shape.rows, shape.columns}, values);
    };
    const auto parameter = [&] { return tensor(types.parameters, {shape.columns}); };
    const auto statistic = [&](Values values) { return tensor(DType::f32, {shape.rows}, values); };
    suite.check(
        title("rms_norm", types, shape),
        {matrix(Values::normal), parameter(), matrix(Values::zero), statistic(Values::zero)},
        tolerance_of(types.data, {2e-5, 2e-5}),
        [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.rms_norm(c, v[0], v[1], 1e-6, v[2], v[3]);
        });
    suite.check(
        title("rms_norm_backward", types, shape),
        {matrix(Values::normal), matrix(Values::normal), parameter(), statistic(Values::positive),
         matrix(Values::zero), tensor(DType::f32, {shape.columns})},
        tolerance_of(types.data, {5e-5, 5e-4}),
        [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.rms_norm_backward(c, v[0], v[1], v[2], v[3], v[4], v[5]);
        });
}

void check_swiglu(Suite& suite, Types types, Shape shape) {
    if (types.data != types.parameters) return;
    // gate and up are halves of one matrix
    const auto half = [&] {
        return strided(types.data, {shape.rows, shape.columns}, {2 * shape.columns, 1});
    };
    const auto whole = [&](Values values) {
        return tensor(types.data, {shape.rows, shape.columns}, values);
    };
    suite.check(title("swiglu", types, shape), {half(), half(), whole(Values::zero)},
                tolerance_of(types.data),
                [](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.swiglu(c, v[0], v[1], v[2]);
                });
    suite.check(title("swiglu_backward", types, shape),
                {half(), half(), whole(Values::normal), half(), half()}, tolerance_of(types.data),
                [](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.swiglu_backward(c, v[0], v[1], v[2], v[3], v[4]);
                });
}

void check_embedding(Suite& suite, Types types) {
    for (const DType index : {DType::i64, DType::i32}) {
        for (const std::int64_t width : {5, 768}) {
            const Shape shape{3000, width};
            const std::string suffix = std::string(" ") + name_of(index);
            // Few rows, so that every index occurs many times.
            suite.check(title("embedding", types, shape) + suffix,
                        {tensor(types.parameters, {61, width}), indices(index, shape.rows, 61),
                         tensor(types.data, {shape.rows, width}, Values::zero)},
                        kExact, [](const KernelTable& k, const KernelContext& c, const Views& v) {
                            return k.embedding(c, v[0], v[1], v[2]);
                        });
            if (types.data != types.parameters) continue;
            // Both add in order of position, in fp32: bit for bit.
            suite.check(title("embedding_backward", types, shape) + suffix,
                        {tensor(types.data, {shape.rows, width}), indices(index, shape.rows, 61),
                         tensor(DType::f32, {61, width})},
                        kExact, [](const KernelTable& k, const KernelContext& c, const Views& v) {
                            return k.embedding_backward(c, v[0], v[1], v[2]);
                        });
        }
    }
}

}  // namespace

void check_rows(Suite& suite) {
    for (const Types types : kTypes) {
        for (const Shape shape : kShapes) {
            check_softmax(suite, types, shape);
            check_layer_norm(suite, types, shape);
            check_rms_norm(suite, types, shape);
            check_swiglu(suite, types, shape);
        }
        check_embedding(suite, types);
    }
    if (suite.backend().context().stream == nullptr) return;  // the CPU refuses at the call
    suite.check_fault("embedding: an index out of range",
                      {tensor(DType::f32, {10, 8}), indices(DType::i64, 500, 20),
                       tensor(DType::f32, {500, 8}, Values::zero)},
                      "an index is outside the table's rows",
                      [](const KernelTable& k, const KernelContext& c, const Views& v) {
                          return k.embedding(c, v[0], v[1], v[2]);
                      });
}

}  // namespace tempra::cuda::parity
