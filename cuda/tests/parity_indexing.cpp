#include <cstring>

#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

struct Layout {
    const char* name;
    std::vector<std::int64_t> sizes, index_sizes, strides;
    std::int32_t dimension;
};

const std::vector<Layout>& layouts() {
    static const std::vector<Layout> all = {
        {"rows", {40, 30}, {7, 30}, {30, 1}, 0},
        {"columns", {40, 30}, {40, 100}, {30, 1}, 1},
        {"one a row", {300, 50}, {300, 1}, {50, 1}, 1},
        {"transposed", {20, 33}, {20, 40}, {1, 20}, 1},
        {"middle", {5, 9, 11}, {5, 30, 11}, {99, 11, 1}, 1},
        {"vector", {100}, {1000}, {1}, 0},
        {"few long lines", {3, 40}, {3, 900}, {40, 1}, 1},
        {"few long columns", {50, 2}, {2000, 2}, {2, 1}, 0},
    };
    return all;
}

// `indices` as a tensor of these sizes.
Operand index_tensor(DType dtype, const std::vector<std::int64_t>& sizes, std::int64_t limit) {
    Operand shape = tensor(dtype, sizes, Values::zero);
    Operand drawn = indices(dtype, shape.view.numel(), limit);
    shape.bytes = drawn.bytes;
    return shape;
}

std::string title(const std::string& kernel, const Layout& layout, DType dtype, DType index) {
    return kernel + " " + name_of(dtype) + " " + name_of(index) + " " + layout.name;
}

void check_layout(Suite& suite, const Layout& layout, DType dtype, DType index) {
    const std::int32_t d = layout.dimension;
    const std::int64_t limit = layout.sizes[static_cast<std::size_t>(d)];
    const Operand at = index_tensor(index, layout.index_sizes, limit);
    suite.check(title("gather", layout, dtype, index),
                {strided(dtype, layout.sizes, layout.strides), at,
                 tensor(dtype, layout.index_sizes, Values::zero)},
                kExact, [d](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.gather(c, v[0], d, v[1], v[2]);
                });
    for (const int add : {0, 1}) {
        if (add != 0 && size_of(dtype) == 1) continue;
        suite.check(
            title(add != 0 ? "scatter adding" : "scatter", layout, dtype, index),
            {tensor(dtype, layout.index_sizes), at, strided(dtype, layout.sizes, layout.strides)},
            // fp16 is rounded after each term, the CPU's stand-in for it once.
            add != 0 && dtype == DType::f16 ? Tolerance{5e-3, 3e-2} : kExact,
            [d, add](const KernelTable& k, const KernelContext& c, const Views& v) {
                return k.scatter(c, v[0], d, v[1], add, v[2]);
            });
    }
}

Operand large_integers(std::int64_t rows, std::int64_t columns) {
    Operand operand = tensor(DType::i64, {rows, columns});
    for (std::size_t i = 0; i < operand.bytes.size(); i += 8) {
        std::int64_t x;
        std::memcpy(&x, &operand.bytes[i], 8);
        x *= std::int64_t{1} << 40;
        std::memcpy(&operand.bytes[i], &x, 8);
    }
    return operand;
}

struct Lines {
    const char* name;
    std::vector<std::int64_t> sizes, strides;
    std::int32_t dimension;
    std::int64_t first;  // of sort
};

const std::vector<Lines>& lines() {
    static const std::vector<Lines> all = {
        {"short rows", {50, 7}, {7, 1}, 1, 7},   {"long rows", {3, 5003}, {5003, 1}, 1, 40},
        {"columns", {300, 20}, {20, 1}, 0, 300}, {"transposed", {30, 70}, {1, 30}, 1, 5},
        {"vector", {1000}, {1}, 0, 1000},        {"one element", {1}, {1}, 0, 1},
    };
    return all;
}

void check_lines(Suite& suite, const Lines& l, DType dtype) {
    const auto in = [&] { return strided(dtype, l.sizes, l.strides); };
    const std::int32_t d = l.dimension;
    std::vector<std::int64_t> first = l.sizes, one = l.sizes;
    first[static_cast<std::size_t>(d)] = l.first;
    one[static_cast<std::size_t>(d)] = 1;
    const std::string suffix = std::string(" ") + name_of(dtype) + " " + l.name;
    for (const int flag : {0, 1}) {
        suite.check((flag != 0 ? "arg_reduce maximum" : "arg_reduce minimum") + suffix,
                    {in(), tensor(DType::i64, one, Values::zero)}, kExact,
                    [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                        return k.arg_reduce(c, flag, v[0], d, v[1]);
                    });
        suite.check((flag != 0 ? "cumulative_sum reversed" : "cumulative_sum") + suffix,
                    {in(), tensor(dtype, l.sizes, Values::zero)},
                    is_floating(dtype) ? tolerance_of(dtype) : kExact,
                    [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                        return k.cumulative_sum(c, v[0], d, flag, v[1]);
                    });
        suite.check(
            (flag != 0 ? "sort descending" : "sort") + suffix,
            {in(), tensor(dtype, first, Values::zero), tensor(DType::i64, first, Values::zero)},
            kExact, [=](const KernelTable& k, const KernelContext& c, const Views& v) {
                return k.sort(c, v[0], d, flag, v[1], v[2]);
            });
    }
}

void check_faults(Suite& suite) {
    suite.check_fault("gather: an index out of range",
                      {tensor(DType::f32, {10}), indices(DType::i64, 500, 20),
                       tensor(DType::f32, {500}, Values::zero)},
                      "outside the indexed dimension",
                      [](const KernelTable& k, const KernelContext& c, const Views& v) {
                          return k.gather(c, v[0], 0, v[1], v[2]);
                      });
    suite.check_fault(
        "scatter: an index out of range of few long lines",
        {tensor(DType::f32, {2000}), indices(DType::i64, 2000, 20), tensor(DType::f32, {10})},
        "outside the indexed dimension",
        [](const KernelTable& k, const KernelContext& c, const Views& v) {
            return k.scatter(c, v[0], 0, v[1], 1, v[2]);
        });
    suite.check_fault("categorical: rows of infinities",
                      {tensor(DType::f32, {3, 0}), tensor(DType::i64, {3}, Values::zero)},
                      "no finite logit",
                      [](const KernelTable& k, const KernelContext& c, const Views& v) {
                          return k.categorical(c, v[0], {}, v[1]);
                      });
}

}  // namespace

void check_indexing(Suite& suite) {
    for (const Layout& layout : layouts()) {
        check_layout(suite, layout, DType::f32, DType::i64);
        check_layout(suite, layout, DType::bf16, DType::i32);
        check_layout(suite, layout, DType::f16, DType::i64);
        check_layout(suite, layout, DType::i64, DType::i64);
        check_layout(suite, layout, DType::i32, DType::i32);
        check_layout(suite, layout, DType::boolean, DType::i64);
    }
    for (const Lines& l : lines()) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32}) {
            check_lines(suite, l, dtype);
        }
    }
    // Numbers that differ in their upper halves alone, and ties.
    for (const int descending : {0, 1}) {
        suite.check(std::string("sort i64 large numbers") + (descending != 0 ? " descending" : ""),
                    {large_integers(7, 90), tensor(DType::i64, {7, 90}, Values::zero),
                     tensor(DType::i64, {7, 90}, Values::zero)},
                    kExact,
                    [descending](const KernelTable& k, const KernelContext& c, const Views& v) {
                        return k.sort(c, v[0], 1, descending, v[1], v[2]);
                    });
    }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        for (const std::int64_t columns : {1, 7, 3000}) {
            suite.check(
                std::string("categorical ") + name_of(dtype) + " 200x" + std::to_string(columns),
                {tensor(dtype, {200, columns}), tensor(DType::i64, {200}, Values::zero)}, kExact,
                [](const KernelTable& k, const KernelContext& c, const Views& v) {
                    return k.categorical(c, v[0], {99, 7, 3, 11}, v[1]);
                });
        }
    }
    if (suite.backend().context().stream != nullptr)
        check_faults(suite);  // the CPU refuses at once
}

}  // namespace tempra::cuda::parity
