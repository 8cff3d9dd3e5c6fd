#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

constexpr DType kComputeDtypes[] = {DType::f32, DType::bf16, DType::f16};

// A length with a partial last pack, and one that is whole.
constexpr std::int64_t kTail = 1003, kWhole = 4096;

Values domain_of(UnaryOp op) {
    switch (op) {
        case UnaryOp::log:
        case UnaryOp::sqrt:
        case UnaryOp::rsqrt:
        case UnaryOp::reciprocal: return Values::positive;
        case UnaryOp::log1p: return Values::unit;
        default: return Values::normal;
    }
}

std::string title(const std::string& kernel, int op, DType dtype, const std::string& layout) {
    return kernel + " " + std::to_string(op) + " " + name_of(dtype) + " " + layout;
}

void check_unary(Suite& suite, UnaryOp op, DType dtype) {
    const bool is_test = op >= UnaryOp::logical_not;
    const DType out = is_test ? DType::boolean : dtype;
    const auto call = [op](const KernelTable& t, const KernelContext& c, const Views& v) {
        return t.unary(c, op, v[0], v[1]);
    };
    const auto at = static_cast<int>(op);
    const Tolerance near = is_test ? kExact : tolerance_of(dtype);
    const Values values = domain_of(op);
    suite.check(title("unary", at, dtype, "tail"),
                {tensor(dtype, {kTail}, values), tensor(out, {kTail}, Values::zero)}, near, call);
    suite.check(title("unary", at, dtype, "transposed"),
                {strided(dtype, {37, 24}, {1, 37}, values), tensor(out, {37, 24}, Values::zero)},
                near, call);
    if (is_test) return;
    suite.check(title("unary_backward", at, dtype, "tail"),
                {tensor(dtype, {kTail}, values), tensor(dtype, {kTail}, Values::positive),
                 tensor(dtype, {kTail}), tensor(dtype, {kTail}, Values::zero)},
                near, [op](const KernelTable& t, const KernelContext& c, const Views& v) {
                    return t.unary_backward(c, op, v[0], v[1], v[2], v[3]);
                });
}

void check_binary(Suite& suite, BinaryOp op, DType dtype) {
    const bool is_comparison = op >= BinaryOp::equal;
    const DType out = is_comparison ? DType::boolean : dtype;
    const auto call = [op](const KernelTable& t, const KernelContext& c, const Views& v) {
        return t.binary(c, op, v[0], v[1], v[2]);
    };
    const auto at = static_cast<int>(op);
    // a ^ b amplifies the error of log a by b log a.
    const Tolerance single = op == BinaryOp::power ? Tolerance{2e-5, 2e-6} : kFloat;
    const Tolerance near =
        is_comparison || dtype == DType::boolean ? kExact : tolerance_of(dtype, single);
    const Values base =
        op == BinaryOp::power || op == BinaryOp::divide ? Values::positive : Values::normal;
    suite.check(title("binary", at, dtype, "tail"),
                {tensor(dtype, {kTail}, base), tensor(dtype, {kTail}, base),
                 tensor(out, {kTail}, Values::zero)},
                near, call);
    suite.check(title("binary", at, dtype, "row broadcast"),
                {tensor(dtype, {6, 64}, base), strided(dtype, {6, 64}, {0, 1}, base),
                 tensor(out, {6, 64}, Values::zero)},
                near, call);
    suite.check(title("binary", at, dtype, "column broadcast, odd rows"),
                {tensor(dtype, {6, 7}, base), strided(dtype, {6, 7}, {1, 0}, base),
                 tensor(out, {6, 7}, Values::zero)},
                near, call);
}

void check_integer_arithmetic(Suite& suite, DType dtype) {
    Operand odd = indices(dtype, kTail, 6);  // never 0: divisors, and exponents
    for (std::size_t i = 0; i < odd.bytes.size(); i += static_cast<std::size_t>(size_of(dtype))) {
        odd.bytes[i] |= std::byte{1};
    }
    for (int at = 0; at < static_cast<int>(BinaryOp::equal); ++at) {
        const auto op = static_cast<BinaryOp>(at);
        suite.check(title("binary", at, dtype, "tail"),
                    {tensor(dtype, {kTail}), odd, tensor(dtype, {kTail}, Values::zero)}, kExact,
                    [op](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.binary(c, op, v[0], v[1], v[2]);
                    });
    }
}

void check_copies(Suite& suite) {
    const auto copy = [](const KernelTable& t, const KernelContext& c, const Views& v) {
        return t.copy(c, v[0], v[1]);
    };
    const DType all[] = {DType::f32, DType::bf16, DType::f16,    DType::f64,
                         DType::i64, DType::i32,  DType::boolean};
    for (const DType from : all) {
        for (const DType to : all) {
            const std::string pair = std::string(name_of(from)) + " to " + name_of(to);
            suite.check("copy " + pair, {tensor(from, {kTail}), tensor(to, {kTail}, Values::zero)},
                        kExact, copy);
        }
        suite.check(
            std::string("copy transposed ") + name_of(from),
            {strided(from, {5, 33, 16}, {16, 80, 1}), tensor(from, {5, 33, 16}, Values::zero)},
            kExact, copy);
    }
    for (const DType from : kComputeDtypes) {
        for (const DType to : kComputeDtypes) {
            suite.check(std::string("accumulate ") + name_of(from) + " into " + name_of(to),
                        {tensor(from, {kTail}), tensor(to, {kTail})}, kExact,
                        [](const KernelTable& t, const KernelContext& c, const Views& v) {
                            return t.accumulate(c, v[0], v[1]);
                        });
        }
    }
}

void check_fills(Suite& suite) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64,
                              DType::i32, DType::boolean}) {
        suite.check(std::string("fill ") + name_of(dtype), {tensor(dtype, {kTail})}, kExact,
                    [](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.fill(c, v[0], 3.0);
                    });
        suite.check(std::string("fill with gaps ") + name_of(dtype),
                    {strided(dtype, {9, 10}, {16, 1})}, kExact,
                    [](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.fill(c, v[0], 1.0);
                    });
    }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32}) {
        suite.check(std::string("arange ") + name_of(dtype), {tensor(dtype, {kTail})}, kExact,
                    [](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.arange(c, v[0], 2.0, 3.0);
                    });
    }
}

}  // namespace

void check_elementwise(Suite& suite) {
    check_integer_arithmetic(suite, DType::i64);
    check_integer_arithmetic(suite, DType::i32);
    check_fills(suite);
    check_copies(suite);
    for (const DType dtype : kComputeDtypes) {
        for (int op = 0; op < static_cast<int>(UnaryOp::count_); ++op) {
            check_unary(suite, static_cast<UnaryOp>(op), dtype);
        }
        for (int op = 0; op < static_cast<int>(BinaryOp::logical_and); ++op) {
            check_binary(suite, static_cast<BinaryOp>(op), dtype);
        }
        suite.check(std::string("where ") + name_of(dtype),
                    {tensor(DType::boolean, {kWhole}), tensor(dtype, {kWhole}),
                     tensor(dtype, {kWhole}), tensor(dtype, {kWhole}, Values::zero)},
                    kExact, [](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.where(c, v[0], v[1], v[2], v[3]);
                    });
        suite.check(std::string("clamp ") + name_of(dtype),
                    {tensor(dtype, {kTail}), tensor(dtype, {kTail}, Values::zero)}, kExact,
                    [](const KernelTable& t, const KernelContext& c, const Views& v) {
                        return t.clamp(c, v[0], -0.5, 0.75, v[1]);
                    });
    }
    for (int op = static_cast<int>(BinaryOp::logical_and); op < static_cast<int>(BinaryOp::count_);
         ++op) {
        check_binary(suite, static_cast<BinaryOp>(op), DType::boolean);
    }
}

}  // namespace tempra::cuda::parity
