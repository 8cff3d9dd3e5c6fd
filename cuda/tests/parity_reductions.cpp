#include "parity_harness.h"
#include "random/philox.h"

namespace tempra::cuda::parity {

namespace {

struct Reduction {
    const char* name;
    std::vector<std::int64_t> sizes, strides, out_sizes;
};

const std::vector<Reduction>& reductions() {
    static const std::vector<Reduction> all = {
        {"all", {100003}, {1}, {1}},
        {"rows", {300, 1000}, {1000, 1}, {300, 1}},
        {"short rows", {5000, 7}, {7, 1}, {5000, 1}},
        {"columns", {1000, 300}, {300, 1}, {1, 300}},
        {"many columns", {64, 9000}, {9000, 1}, {1, 9000}},
        {"packs of columns", {1000, 320}, {320, 1}, {1, 320}},
        {"packs of columns and rows", {30, 40, 64}, {2560, 64, 1}, {1, 40, 64}},
        {"middle", {20, 50, 33}, {1650, 33, 1}, {20, 1, 33}},
        {"outer and inner", {20, 50, 33}, {1650, 33, 1}, {1, 50, 1}},
        {"transposed", {200, 300}, {1, 200}, {200, 1}},
        {"broadcast", {40, 30}, {1, 0}, {40, 1}},
        {"nothing", {40, 30}, {30, 1}, {40, 30}},
    };
    return all;
}

const char* name_of_reduce(ReduceOp op) {
    constexpr const char* kNames[] = {"sum", "mean", "maximum", "minimum", "product"};
    return kNames[static_cast<int>(op)];
}

struct Types {
    DType in, out;
};

}  // namespace

void check_reductions(Suite& suite) {
    constexpr Types kTypes[] = {{DType::f32, DType::f32},
                                {DType::bf16, DType::bf16},
                                {DType::bf16, DType::f32},
                                {DType::f16, DType::f16},
                                {DType::f16, DType::f32}};
    for (const Types types : kTypes) {
        for (const Reduction& r : reductions()) {
            for (int at = 0; at < static_cast<int>(ReduceOp::count_); ++at) {
                const auto op = static_cast<ReduceOp>(at);
                const bool extreme = op == ReduceOp::maximum || op == ReduceOp::minimum;
                // Products of many normal numbers vanish; errors grow with the number of factors.
                Tolerance near = tolerance_of(types.out, {2e-5, 3e-4});
                if (op == ReduceOp::product) near.relative = 2e-2;
                suite.check(std::string("reduce ") + name_of_reduce(op) + " " + r.name + " " +
                                name_of(types.in) + " to " + name_of(types.out),
                            {strided(types.in, r.sizes, r.strides),
                             tensor(types.out, r.out_sizes, Values::zero)},
                            extreme ? kExact : near,
                            [op](const KernelTable& k, const KernelContext& c, const Views& v) {
                                return k.reduce(c, op, v[0], v[1]);
                            });
            }
        }
    }
}

// Counts and masks.
void check_integer_reductions(Suite& suite) {
    constexpr Types kIntegers[] = {{DType::i64, DType::i64},
                                   {DType::i32, DType::i64},
                                   {DType::i32, DType::i32},
                                   {DType::boolean, DType::i64}};
    for (const Types types : kIntegers) {
        for (const Reduction& r : reductions()) {
            for (int at = 0; at < static_cast<int>(ReduceOp::count_); ++at) {
                const auto op = static_cast<ReduceOp>(at);
                if (op == ReduceOp::mean) continue;
                suite.check(std::string("reduce ") + name_of_reduce(op) + " " + r.name + " " +
                                name_of(types.in) + " to " + name_of(types.out),
                            {strided(types.in, r.sizes, r.strides),
                             tensor(types.out, r.out_sizes, Values::zero)},
                            kExact,
                            [op](const KernelTable& k, const KernelContext& c, const Views& v) {
                                return k.reduce(c, op, v[0], v[1]);
                            });
            }
        }
    }
}

void check_random(Suite& suite) {
    const PhiloxKey key{0x123456789ABCDEFULL, 7, 3, 11};
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const std::int64_t columns : {1, 7, 768}) {
            const std::string suffix =
                std::string(" ") + name_of(dtype) + " 33x" + std::to_string(columns);
            const auto matrix = [&](Values values) { return tensor(dtype, {33, columns}, values); };
            // What would round to the bound itself is the fp16 number below it on the device.
            suite.check("random_fill uniform" + suffix, {matrix(Values::zero)},
                        dtype == DType::f16 ? kFloat16 : kExact,
                        [key](const KernelTable& k, const KernelContext& c, const Views& v) {
                            return k.random_fill(c, RandomDistribution::uniform, -0.3, 1.7, key,
                                                 v[0]);
                        });
            suite.check("random_fill normal" + suffix, {matrix(Values::zero)},
                        tolerance_of(dtype, {1e-5, 1e-5}),
                        [key](const KernelTable& k, const KernelContext& c, const Views& v) {
                            return k.random_fill(c, RandomDistribution::normal, 0.5, 2.0, key,
                                                 v[0]);
                        });
            for (const double probability : {0.0, 0.1, 1.0}) {
                suite.check("dropout " + std::to_string(probability) + suffix,
                            {matrix(Values::normal), matrix(Values::zero)}, kExact,
                            [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                                return k.dropout(c, v[0], probability, key, v[1]);
                            });
            }
        }
    }
}

}  // namespace tempra::cuda::parity
