// The matrix product on every ISA this machine can run, against sums in double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "dispatch/select.h"
#include "tempra/threads.h"

namespace tempra {
namespace {

double get(const TensorView& v, std::int64_t offset) {
    switch (v.dtype) {
        case DType::f32: return static_cast<double>(v.as<float>()[offset]);
        case DType::bf16: return static_cast<double>(v.as<bfloat16>()[offset].to_float());
        default: return v.as<double>()[offset];
    }
}
void set(const TensorView& v, std::int64_t offset, double value) {
    switch (v.dtype) {
        case DType::f32: v.as<float>()[offset] = static_cast<float>(value); break;
        case DType::bf16:
            v.as<bfloat16>()[offset] = bfloat16::from_float(static_cast<float>(value));
            break;
        default: v.as<double>()[offset] = value;
    }
}

// A [batch, rows, columns] array with padded, optionally transposed storage. Storage outside the
// matrix is NaN, so that reading it shows; after the product it must be unchanged.
struct Array {
    std::vector<unsigned char> storage;
    TensorView view;

    Array() = default;
    Array(DType dtype, std::int64_t batch, std::int64_t rows, std::int64_t columns, bool transposed,
          std::int64_t padding, bool shared_batch, std::mt19937& random) {
        const std::int64_t leading = (transposed ? rows : columns) + padding;
        const std::int64_t one = leading * (transposed ? columns : rows);
        const std::int64_t copies = shared_batch ? 1 : batch;
        storage.resize(static_cast<std::size_t>((one * copies + 1) * size_of(dtype)));
        view.data = storage.data();
        view.dtype = dtype;
        view.dimensions = 3;
        view.sizes[0] = batch, view.sizes[1] = rows, view.sizes[2] = columns;
        view.strides[0] = shared_batch ? 0 : one;
        view.strides[1] = transposed ? 1 : leading;
        view.strides[2] = transposed ? leading : 1;
        for (std::int64_t i = 0; i < one * copies + 1; ++i) set(view, i, std::nan(""));
        std::uniform_real_distribution<double> uniform(-1, 1);
        for_each([&](std::int64_t offset) { set(view, offset, uniform(random)); });
    }
    template <class Body>
    void for_each(const Body& body) const {
        for (std::int64_t b = 0; b < (view.strides[0] == 0 ? 1 : view.sizes[0]); ++b) {
            for (std::int64_t i = 0; i < view.sizes[1]; ++i) {
                for (std::int64_t j = 0; j < view.sizes[2]; ++j) body(offset(b, i, j));
            }
        }
    }
    [[nodiscard]] std::int64_t offset(std::int64_t b, std::int64_t i, std::int64_t j) const {
        return b * view.strides[0] + i * view.strides[1] + j * view.strides[2];
    }
    [[nodiscard]] double at(std::int64_t b, std::int64_t i, std::int64_t j) const {
        return get(view, offset(b, i, j));
    }
    // The same storage as a view of this object's, without the batch dimension when there is one.
    [[nodiscard]] TensorView matrix() const {
        TensorView v = view;
        v.data = const_cast<unsigned char*>(storage.data());
        if (v.sizes[0] != 1) return v;
        v.dimensions = 2;
        for (int i = 0; i < 2; ++i)
            v.sizes[i] = view.sizes[i + 1], v.strides[i] = view.strides[i + 1];
        return v;
    }
};

enum Flags : unsigned {
    kTransposeA = 1,
    kTransposeB = 2,
    kBias = 4,
    kBiasF32 = 8,
    kResidual = 16,
    kPreActivation = 32,
    kActivationInput = 64,
    kAccumulate = 128,
    kShareA = 256,
    kShareB = 512,
    kPackedB = 1024,
};

struct Case {
    std::int64_t m, n, k;
    unsigned flags = 0;
    Activation activation = Activation::none;
    std::int64_t batch = 1;
    std::int64_t padding = 0;
};

double activate(Activation kind, double x) {
    switch (kind) {
        case Activation::none: return x;
        case Activation::relu: return x > 0 ? x : 0;
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::gelu: return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
        case Activation::gelu_tanh:
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    return 0;
}
double activation_slope(Activation kind, double x) {
    switch (kind) {
        case Activation::none: return 1;
        case Activation::relu: return x > 0 ? 1 : 0;
        case Activation::silu: {
            const double sigmoid = 1 / (1 + std::exp(-x));
            return sigmoid + x * sigmoid * (1 - sigmoid);
        }
        case Activation::gelu:
            return 0.5 * std::erfc(-x / std::sqrt(2.0)) +
                   x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
        case Activation::gelu_tanh: {
            const double root = std::sqrt(2 / M_PI);
            const double t = std::tanh(root * (x + 0.044715 * x * x * x));
            return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
        }
    }
    return 0;
}

struct Types {
    DType operand, result;
};

// Everything of one product, so that a test can run it again.
struct ProductSetup {
    Array a, b, c, bias, residual, pre_activation, activation_input;
    std::vector<unsigned char> packed;
    GemmArguments arguments;
};

// 64-byte alignment for packed operands, as arenas and the pool give.
void* aligned(std::vector<unsigned char>& storage, std::int64_t bytes) {
    storage.resize(static_cast<std::size_t>(bytes + 64));
    const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    return storage.data() + (64 - address % 64) % 64;
}

void make(ProductSetup& s, const KernelTable& table, const Case& t, Types types, unsigned seed) {
    std::mt19937 random(seed);
    const auto array = [&](DType dtype, std::int64_t rows, std::int64_t columns, bool transposed,
                           bool shared) {
        return Array(dtype, t.batch, rows, columns, transposed, t.padding, shared, random);
    };
    s.a = array(types.operand, t.m, t.k, (t.flags & kTransposeA) != 0, (t.flags & kShareA) != 0);
    s.b = array(types.operand, t.k, t.n, (t.flags & kTransposeB) != 0, (t.flags & kShareB) != 0);
    s.c = array(types.result, t.m, t.n, false, false);
    GemmArguments& g = s.arguments;
    g = {};
    g.a = s.a.matrix(), g.b = s.b.matrix(), g.c = s.c.matrix();
    if ((t.flags & (kBias | kBiasF32)) != 0) {
        const DType dtype = (t.flags & kBias) != 0 ? types.operand : DType::f32;
        s.bias = Array(dtype, 1, 1, t.n, false, 0, false, random);
        g.bias = s.bias.matrix();
        g.bias.dimensions = 1;
        g.bias.sizes[0] = t.n, g.bias.strides[0] = 1;
    }
    if ((t.flags & kResidual) != 0) {
        s.residual = array(types.result, t.m, t.n, false, false);
        g.residual = s.residual.matrix();
    }
    if ((t.flags & kPreActivation) != 0) {
        s.pre_activation = array(types.result, t.m, t.n, false, false);
        g.pre_activation = s.pre_activation.matrix();
    }
    if ((t.flags & kActivationInput) != 0) {
        s.activation_input = array(types.result, t.m, t.n, false, false);
        g.activation_input = s.activation_input.matrix();
    }
    g.activation = t.activation;
    g.accumulate = (t.flags & kAccumulate) != 0 ? 1 : 0;
    if ((t.flags & kPackedB) != 0) {
        const std::int64_t bytes = table.gemm_packed_bytes(g.b);
        ASSERT_GT(bytes, 0);
        void* packed = aligned(s.packed, bytes);
        ASSERT_EQ(table.gemm_pack({}, g.b, packed), kKernelOk);
        g.packed_b = packed;
    }
}

// Runs one case and compares every element; also that padding was left alone.
void check(const KernelTable& table, const Case& t, Types types) {
    SCOPED_TRACE(testing::Message()
                 << "m " << t.m << " n " << t.n << " k " << t.k << " flags " << t.flags
                 << " activation " << static_cast<int>(t.activation) << " batch " << t.batch
                 << " padding " << t.padding << " " << types.operand << " -> " << types.result);
    ProductSetup s;
    make(s, table, t, types, static_cast<unsigned>(t.m * 31 + t.n * 7 + t.k));
    const Array before = s.c;
    ASSERT_EQ(table.gemm({}, s.arguments), kKernelOk);
    const double sum_tolerance = types.operand == DType::f64 ? 1e-15 : 6e-7;
    const double store_tolerance =
        types.result == DType::f64 ? 1e-13 : (types.result == DType::f32 ? 1e-6 : 1.0 / 256);
    int bad = 0;
    const auto compare = [&](const char* what, double value, double expected, double scale,
                             double rounded, std::int64_t i, std::int64_t j) {
        const double tolerance =
            sum_tolerance * scale + store_tolerance * (std::abs(expected) + rounded);
        if (!(std::abs(value - expected) <= tolerance) && ++bad < 4) {
            ADD_FAILURE() << what << "[" << i << ", " << j << "] is " << value << ", expected "
                          << expected << " within " << tolerance;
        }
    };
    for (std::int64_t z = 0; z < t.batch; ++z) {
        for (std::int64_t i = 0; i < t.m; ++i) {
            for (std::int64_t j = 0; j < t.n; ++j) {
                double x = 0, scale = 1;
                for (std::int64_t p = 0; p < t.k; ++p) {
                    const double term = s.a.at(z, i, p) * s.b.at(z, p, j);
                    x += term;
                    scale += std::abs(term);
                }
                if (s.arguments.bias.present()) x += s.bias.at(0, 0, j);
                if (s.arguments.pre_activation.present()) {
                    compare("pre_activation", s.pre_activation.at(z, i, j), x, scale, 0, i, j);
                }
                double rounded = 0;  // values rounded to the result's dtype on the way
                if (s.arguments.activation_input.present()) {
                    x *= activation_slope(t.activation, s.activation_input.at(z, i, j));
                } else if (t.activation != Activation::none) {
                    // Of the value as it is stored; no activation here is steeper than 1.13.
                    if (s.arguments.pre_activation.present()) {
                        x = s.pre_activation.at(z, i, j);
                    } else {
                        rounded = 1.13 * std::abs(x);
                    }
                    x = activate(t.activation, x);
                }
                if (s.arguments.residual.present()) x += s.residual.at(z, i, j);
                if (s.arguments.accumulate != 0) x += get(before.matrix(), before.offset(z, i, j));
                compare("c", s.c.at(z, i, j), x, scale, rounded, i, j);
            }
        }
    }
    Array padding_before = before, padding_after = s.c;
    padding_before.view.data = padding_before.storage.data();
    padding_after.view.data = padding_after.storage.data();
    for (Array* array : {&padding_before, &padding_after}) {
        array->for_each([&](std::int64_t offset) { set(array->view, offset, 0); });
    }
    EXPECT_EQ(padding_before.storage, padding_after.storage) << "wrote outside c";
}

std::vector<cpu::Isa> runnable_isas() {
    std::vector<cpu::Isa> isas;
    for (int i = 0; i <= static_cast<int>(cpu::detect_isa()); ++i) {
        isas.push_back(static_cast<cpu::Isa>(i));
    }
    return isas;
}

class GemmOn : public testing::TestWithParam<cpu::Isa> {
  protected:
    const KernelTable& table() const { return cpu_kernel_table(GetParam()); }
    std::vector<Types> all_types() const {
        std::vector<Types> types = {
            {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};
        if (GetParam() == cpu::Isa::baseline) types.push_back({DType::f64, DType::f64});
        return types;
    }
};

TEST_P(GemmOn, OddShapesInEveryTransposition) {
    const std::int64_t sizes[][3] = {{1, 1, 1},    {1, 64, 64},   {2, 3, 5},     {5, 17, 33},
                                     {6, 64, 16},  {7, 65, 1},    {8, 130, 2},   {9, 31, 129},
                                     {48, 64, 32}, {49, 63, 31},  {50, 200, 77}, {13, 1, 100},
                                     {97, 97, 97}, {3, 129, 255}, {64, 48, 2100}};
    for (const auto& size : sizes) {
        for (unsigned flags = 0; flags < 4; ++flags) {
            for (const std::int64_t padding : {0, 3}) {
                for (const Types types : all_types()) {
                    check(table(), {size[0], size[1], size[2], flags, Activation::none, 1, padding},
                          types);
                }
            }
        }
    }
}

TEST_P(GemmOn, EveryRowAndColumnCountOfATile) {
    for (std::int64_t m = 1; m <= 14; ++m) {
        for (std::int64_t n = 1; n <= 70; n += 3) {
            for (const Types types : all_types()) check(table(), {m, n, 7}, types);
        }
    }
}

// Every number of rows that is multiplied without packing, and the first ones beyond, with column
// counts that end inside a tile and inside a task.
TEST_P(GemmOn, FewRows) {
    for (std::int64_t m = 1; m <= 51; ++m) {
        for (const std::int64_t n : {3, 64, 133, 1030}) {
            for (const unsigned flags : {0U, unsigned{kTransposeB}, unsigned{kTransposeA}}) {
                for (const Types types : all_types()) check(table(), {m, n, 37, flags}, types);
            }
        }
    }
}

TEST_P(GemmOn, Epilogues) {
    const Activation activations[] = {Activation::none, Activation::relu, Activation::silu,
                                      Activation::gelu, Activation::gelu_tanh};
    const unsigned combinations[] = {kBias,
                                     kBiasF32,
                                     kResidual,
                                     kBias | kResidual,
                                     kBias | kPreActivation,
                                     kBiasF32 | kPreActivation | kResidual,
                                     kActivationInput,
                                     kAccumulate};
    const std::int64_t sizes[][3] = {{20, 70, 30}, {1, 35, 64}, {12, 64, 2500}, {3, 9, 0}};
    for (const auto& size : sizes) {
        for (const Activation activation : activations) {
            for (const unsigned combination : combinations) {
                for (const Types types : all_types()) {
                    check(table(), {size[0], size[1], size[2], combination, activation, 1, 5},
                          types);
                }
            }
        }
    }
}

TEST_P(GemmOn, Batches) {
    for (const unsigned flags :
         {0U, unsigned{kTransposeA}, unsigned{kTransposeB}, unsigned{kShareA}, unsigned{kShareB},
          kBias | kResidual, unsigned{kAccumulate}}) {
        for (const Types types : all_types()) {
            check(table(), {5, 19, 23, flags, Activation::none, 7}, types);
            check(table(), {33, 40, 65, flags, Activation::relu, 3, 2}, types);
        }
    }
}

TEST_P(GemmOn, EmptyAndZeroLengthSums) {
    for (const Types types : all_types()) {
        check(table(), {0, 5, 3}, types);
        check(table(), {5, 0, 3}, types);
        check(table(), {5, 3, 4, 0, Activation::none, 0}, types);
        check(table(), {5, 70, 0}, types);
        check(table(), {5, 70, 0, kBias | kResidual}, types);
        check(table(), {5, 70, 0, kAccumulate}, types);
    }
}

// Several k blocks, several tasks, sums through c or a buffer.
TEST_P(GemmOn, LongSums) {
    for (const Types types : all_types()) {
        for (const unsigned flags : {0U, unsigned{kAccumulate}, kTransposeA | kAccumulate,
                                     kTransposeB | kBias | kResidual}) {
            check(table(), {53, 67, 4500, flags}, types);
        }
    }
}

TEST_P(GemmOn, LargeGrid) {
    for (const Types types : all_types()) {
        check(table(), {200, 1100, 40}, types);
        check(table(), {200, 1100, 40, kTransposeA | kAccumulate}, types);
        check(table(), {200, 1100, 40, kTransposeB | kBias, Activation::gelu_tanh}, types);
    }
}

std::string bytes_of(const Array& array) {
    return {reinterpret_cast<const char*>(array.storage.data()), array.storage.size()};
}

TEST_P(GemmOn, PackedWeightsGiveTheSameBits) {
    const std::int64_t sizes[][3] = {{50, 130, 77}, {3, 70, 64},    {1, 64, 33},
                                     {20, 70, 65},  {33, 1100, 40}, {60, 100, 3000}};
    for (const auto& size : sizes) {
        for (const unsigned flags : {0U, unsigned{kTransposeB}}) {
            for (const Types types : all_types()) {
                ProductSetup fresh, packed;
                make(fresh, table(), {size[0], size[1], size[2], flags}, types, 5);
                make(packed, table(), {size[0], size[1], size[2], flags | kPackedB}, types, 5);
                ASSERT_EQ(table().gemm({}, fresh.arguments), kKernelOk);
                ASSERT_EQ(table().gemm({}, packed.arguments), kKernelOk);
                EXPECT_EQ(bytes_of(fresh.c), bytes_of(packed.c));
                check(table(), {size[0], size[1], size[2], flags | kPackedB}, types);
            }
        }
    }
}

// What a product with fp32 weights beside bf16 activations is: the one with the weights rounded.
TEST_P(GemmOn, F32WeightsAreRoundedToBf16) {
    const std::int64_t sizes[][3] = {{1, 1, 1},       {1, 130, 77},   {3, 70, 64},   {8, 33, 131},
                                     {9, 17, 1},      {50, 130, 77},  {20, 5, 31},   {64, 64, 64},
                                     {60, 100, 3000}, {100, 700, 65}, {5, 300, 3001}};
    for (const auto& size : sizes) {
        for (const unsigned flags : {0U, unsigned{kTransposeB}, unsigned{kTransposeA}}) {
            for (const DType result : {DType::f32, DType::bf16}) {
                SCOPED_TRACE(testing::Message() << "m " << size[0] << " n " << size[1] << " k "
                                                << size[2] << " flags " << flags);
                ProductSetup wide, rounded;
                const Case t{size[0], size[1], size[2], flags | kAccumulate | kBiasF32};
                make(wide, table(), t, {DType::bf16, result}, 7);
                make(rounded, table(), t, {DType::bf16, result}, 7);
                std::mt19937 random(8);
                wide.b =
                    Array(DType::f32, 1, t.k, t.n, (flags & kTransposeB) != 0, 3, false, random);
                wide.arguments.b = wide.b.matrix();
                for (std::int64_t p = 0; p < t.k; ++p) {
                    for (std::int64_t j = 0; j < t.n; ++j) {
                        set(rounded.arguments.b, rounded.b.offset(0, p, j), wide.b.at(0, p, j));
                    }
                }
                ASSERT_EQ(table().gemm({}, wide.arguments), kKernelOk);
                ASSERT_EQ(table().gemm({}, rounded.arguments), kKernelOk);
                EXPECT_EQ(bytes_of(wide.c), bytes_of(rounded.c));
            }
        }
    }
}

TEST_P(GemmOn, ThreadCountDoesNotChangeBits) {
    const int before = num_threads();
    const Case cases[] = {{200, 300, 500, kTransposeB | kBias, Activation::gelu_tanh},
                          {130, 700, 2500, kTransposeA | kAccumulate},
                          {4, 900, 300, kTransposeB},
                          {4, 900, 300},
                          {40, 50, 60, 0, Activation::none, 9}};
    for (const Case& t : cases) {
        for (const Types types : all_types()) {
            std::string first;
            for (int threads = 1; threads <= 3; ++threads) {
                set_num_threads(threads);
                ProductSetup s;
                make(s, table(), t, types, 11);
                ASSERT_EQ(table().gemm({}, s.arguments), kKernelOk);
                if (threads == 1) {
                    first = bytes_of(s.c);
                } else {
                    EXPECT_EQ(first, bytes_of(s.c)) << threads << " threads, m " << t.m;
                }
            }
        }
    }
    set_num_threads(before);
}

TEST_P(GemmOn, NanAndInfinityPropagate) {
    const double infinity = std::numeric_limits<double>::infinity();
    for (const Types types : all_types()) {
        for (const std::int64_t m : {2, 20}) {
            for (const double special : {std::nan(""), infinity, -infinity}) {
                ProductSetup s;
                make(s, table(), {m, 70, 33, kTransposeB, Activation::none}, types, 3);
                set(s.arguments.a, s.a.offset(0, 1, 32), special);
                set(s.arguments.b, s.b.offset(0, 32, 5), 1.0);
                set(s.arguments.b, s.b.offset(0, 32, 6), 0.0);
                ASSERT_EQ(table().gemm({}, s.arguments), kKernelOk);
                for (std::int64_t j = 0; j < 70; ++j) {
                    EXPECT_FALSE(std::isfinite(s.c.at(0, 1, j))) << j;
                    EXPECT_TRUE(std::isfinite(s.c.at(0, 0, j))) << j;
                }
                EXPECT_TRUE(std::isnan(special) ? std::isnan(s.c.at(0, 1, 5))
                                                : s.c.at(0, 1, 5) == special);
                EXPECT_TRUE(std::isnan(s.c.at(0, 1, 6)));  // infinity * 0
            }
        }
    }
}

TEST_P(GemmOn, RefusesOtherTypes) {
    ProductSetup s;
    make(s, table(), {4, 4, 4}, {DType::f32, DType::f32}, 1);
    s.arguments.b.dtype = DType::bf16;
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    s.arguments.a.dtype = DType::bf16;
    s.arguments.b.dtype = DType::f32;
    s.arguments.packed_b = s.b.storage.data();  // packed for f32 products
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    s.arguments.a.dtype = s.arguments.b.dtype = DType::i32;
    EXPECT_EQ(table().gemm({}, s.arguments), kKernelUnsupportedDtype);
    EXPECT_EQ(table().gemm_packed_bytes(s.arguments.b), 0);
}

std::string isa_name(const testing::TestParamInfo<cpu::Isa>& test) {
    return cpu::name_of(test.param);
}

INSTANTIATE_TEST_SUITE_P(Isa, GemmOn, testing::ValuesIn(runnable_isas()), isa_name);

}  // namespace
}  // namespace tempra
