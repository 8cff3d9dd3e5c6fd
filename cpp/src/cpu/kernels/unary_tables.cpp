// Tables of unary functions over all bf16 numbers.
//
// Bytes moved: each operand once, and the part of the table that is in use. Mapping: as the loops
// that use them. Deterministic: a table holds what the function gives. A table is filled once, by
// the thread that first asks for it; until it is ready, other threads compute.
#include "kernels/unary_tables.h"

#include "kernels/unary_functions.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr int kNumbers = 65536;
constexpr int kBlock = 256;
constexpr std::int64_t kAhead = 1024;  // elements to ask for: scalar code looks ahead too little

enum State : int { kEmpty, kFilling, kReady };

// In the zero pages of the library until used.
template <class Value>
struct Table {
    int state;
    alignas(64) Value values[kNumbers];

    // `fill(first, values)` writes kBlock values from the number with bits `first` on.
    template <class Fill>
    const Value* get(const Fill& fill) {
        if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) == kReady) return values;
        int expected = kEmpty;
        if (!__atomic_compare_exchange_n(&state, &expected, kFilling, false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED)) {
            return nullptr;
        }
        for (int first = 0; first < kNumbers; first += kBlock) fill(first, values + first);
        __atomic_store_n(&state, kReady, __ATOMIC_RELEASE);
        return values;
    }
};

// The functions that cost more than a table; their places among the tables, or -1.
constexpr int place_of(UnaryOp op) {
    switch (op) {
#if !defined(__AVX512F__)  // 16 cycles for 16 numbers
        case UnaryOp::exp: return 0;
#endif
        case UnaryOp::log: return 1;
        case UnaryOp::log1p: return 2;
        case UnaryOp::expm1: return 3;
        case UnaryOp::sin: return 4;
        case UnaryOp::cos: return 5;
        case UnaryOp::tanh: return 6;
        case UnaryOp::erf: return 7;
        case UnaryOp::sigmoid: return 8;
        case UnaryOp::silu: return 9;
        case UnaryOp::softplus: return 10;
        case UnaryOp::gelu: return 11;
        case UnaryOp::gelu_tanh: return 12;
        default: return -1;
    }
}
constexpr int kFunctions = 13;

// Those whose derivative is written in the input and costs more than a table.
constexpr int derivative_place_of(UnaryOp op) {
    switch (op) {
        case UnaryOp::expm1: return 0;
        case UnaryOp::sin: return 1;
        case UnaryOp::cos: return 2;
        case UnaryOp::erf: return 3;
        case UnaryOp::silu: return 4;
        case UnaryOp::softplus: return 5;
        case UnaryOp::gelu: return 6;
        case UnaryOp::gelu_tanh: return 7;
        default: return -1;
    }
}
constexpr int kDerivatives = 8;

Table<std::uint16_t> values_of[kFunctions];
Table<float> derivatives_of[kDerivatives];
Table<float> activations[3];

// out = block(x) or block(x, 1) for kBlock numbers x as floats.
void fill_floats(BlockFunction block, int first, float* values) {
    float numbers[kBlock], ones[kBlock];
    for (int i = 0; i < kBlock; ++i) {
        numbers[i] = bfloat16{static_cast<std::uint16_t>(first + i)}.to_float();
        ones[i] = 1.0F;
    }
    char* operands[] = {reinterpret_cast<char*>(values), reinterpret_cast<char*>(numbers),
                        reinterpret_cast<char*>(ones)};
    block(nullptr, operands, kBlock);
}

}  // namespace

const std::uint16_t* table_of_values(UnaryOp op, std::int64_t count) {
    const int place = place_of(op);
    if (place < 0 || count < kLeastElementsForTable) return nullptr;
    return values_of[place].get([op](int first, std::uint16_t* values) {
        bfloat16 numbers[kBlock], results[kBlock];
        for (int i = 0; i < kBlock; ++i) numbers[i].bits = static_cast<std::uint16_t>(first + i);
        char* operands[] = {reinterpret_cast<char*>(results), reinterpret_cast<char*>(numbers)};
        unary_function(op, DType::bf16)(nullptr, operands, kBlock);
        for (int i = 0; i < kBlock; ++i) values[i] = results[i].bits;
    });
}

const float* table_of_derivatives(UnaryOp op, std::int64_t count) {
    const int place = derivative_place_of(op);
    if (place < 0 || count < kLeastElementsForTable) return nullptr;
    return derivatives_of[place].get([op](int first, float* values) {
        fill_floats(derivative_function(op, DType::f32), first, values);
    });
}

const float* table_of_activation(Activation activation, std::int64_t count) {
    if (count < kLeastElementsForTable) return nullptr;
    const auto filled = [](Table<float>& table, UnaryOp op) {
        return table.get([op](int first, float* values) {
            fill_floats(unary_function(op, DType::f32), first, values);
        });
    };
    switch (activation) {
        case Activation::silu: return filled(activations[0], UnaryOp::silu);
        case Activation::gelu: return filled(activations[1], UnaryOp::gelu);
        case Activation::gelu_tanh: return filled(activations[2], UnaryOp::gelu_tanh);
        default: return nullptr;
    }
}

void look_up_values(const void* table, char* const* operands, std::int64_t n) {
    typedef std::uint16_t Bits __attribute__((may_alias));
    typedef std::uint16_t Eight __attribute__((vector_size(16)));
    const auto* values = static_cast<const std::uint16_t*>(table);
    Bits* out = reinterpret_cast<Bits*>(operands[0]);
    const Bits* x = reinterpret_cast<const Bits*>(operands[1]);
    std::int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __builtin_prefetch(x + i + kAhead);
        __builtin_prefetch(out + i + kAhead, 1);
#pragma GCC unroll 4
        for (int j = 0; j < 32; j += 8) {
            const Bits* p = x + i + j;
            const Eight found = {values[p[0]], values[p[1]], values[p[2]], values[p[3]],
                                 values[p[4]], values[p[5]], values[p[6]], values[p[7]]};
            std::memcpy(out + i + j, &found, sizeof(found));
        }
    }
    for (; i < n; ++i) out[i] = values[x[i]];
}

void multiply_derivatives(const void* table, char* const* operands, std::int64_t n) {
    const auto* derivatives = static_cast<const float*>(table);
    auto* out = reinterpret_cast<bfloat16*>(operands[0]);
    const auto* x = reinterpret_cast<const bfloat16*>(operands[1]);
    const auto* g = reinterpret_cast<const bfloat16*>(operands[2]);
    constexpr int kStep = kLanes<float>;
    std::int64_t i = 0;
    for (; i + kStep <= n; i += kStep) {
        if (i % 32 == 0) {
            __builtin_prefetch(x + i + kAhead);
            __builtin_prefetch(g + i + kAhead);
            __builtin_prefetch(out + i + kAhead, 1);
        }
        store<float>(out + i, load<float>(g + i) * look_up(derivatives, x + i));
    }
    for (; i < n; ++i) {
        out[i] = bfloat16::from_float(g[i].to_float() * derivatives[x[i].bits]);
    }
}

}  // namespace tempra::cpu::TEMPRA_ISA
