#include "gemm_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "reference_activation.h"

namespace tempra::testing {

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

namespace {

// 64-byte alignment for packed operands, as arenas and the pool give.
void* aligned(std::vector<unsigned char>& storage, std::int64_t bytes) {
    storage.resize(static_cast<std::size_t>(bytes + 64));
    const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    return storage.data() + (64 - address % 64) % 64;
}

}  // namespace

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

void check(const KernelTable& table, const Case& t, Types types) {
    SCOPED_TRACE(::testing::Message()
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
                    x *= reference_activation_derivative(t.activation,
                                                         s.activation_input.at(z, i, j));
                } else if (t.activation != Activation::none) {
                    // Of the value as it is stored; no activation here is steeper than 1.13.
                    if (s.arguments.pre_activation.present()) {
                        x = s.pre_activation.at(z, i, j);
                    } else {
                        rounded = 1.13 * std::abs(x);
                    }
                    x = reference_activation(t.activation, x);
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

std::string bytes_of(const Array& array) {
    return {reinterpret_cast<const char*>(array.storage.data()), array.storage.size()};
}

std::vector<cpu::Isa> runnable_isas() {
    std::vector<cpu::Isa> isas;
    for (int i = 0; i <= static_cast<int>(cpu::detect_isa()); ++i) {
        isas.push_back(static_cast<cpu::Isa>(i));
    }
    return isas;
}

std::vector<Types> product_types(cpu::Isa isa) {
    std::vector<Types> types = {
        {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};
    if (isa == cpu::Isa::baseline) types.push_back({DType::f64, DType::f64});
    return types;
}

}  // namespace tempra::testing
