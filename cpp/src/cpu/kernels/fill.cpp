// out = value; out[i] = start + i * step.
//
// Bytes moved: out once. Mapping: fixed chunks of elements over threads (strided_loop.h).
// Deterministic: every element is computed alone.
#include <cmath>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/register.h"
#include "kernels/strided_loop.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <class T>
std::uint64_t bits_of(T value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(value));
    return bits;
}

std::uint64_t bits_of_number(DType dtype, double value) {
    switch (dtype) {
        case DType::f32: return bits_of(static_cast<float>(value));
        case DType::bf16: return bits_of(convert<bfloat16>(value));
        case DType::f16: return bits_of(convert<float16>(value));
        case DType::f64: return bits_of(value);
        case DType::i64: return bits_of(static_cast<std::int64_t>(value));
        case DType::i32: return bits_of(static_cast<std::int32_t>(value));
        case DType::u32: return bits_of(convert<std::uint32_t>(value));
        case DType::u16: return bits_of(convert<std::uint16_t>(value));
        case DType::u8: return bits_of(convert<std::uint8_t>(value));
        case DType::boolean: return bits_of(convert<Boolean>(value));
    }
    return 0;
}

template <class Bits>
void fill_block(const void* context, char* const* operands, std::int64_t n) {
    typedef Bits __attribute__((may_alias)) Element;
    const Bits value = static_cast<Bits>(*static_cast<const std::uint64_t*>(context));
    Element* out = reinterpret_cast<Element*>(operands[0]);
    for (std::int64_t i = 0; i < n; ++i) out[i] = value;
}

KernelStatus fill(const KernelContext&, const TensorView& out, double value) {
    const std::uint64_t bits = bits_of_number(out.dtype, value);
    switch (size_of(out.dtype)) {
        case 1: run_elementwise(fill_block<std::uint8_t>, &bits, out); break;
        case 2: run_elementwise(fill_block<std::uint16_t>, &bits, out); break;
        case 4: run_elementwise(fill_block<std::uint32_t>, &bits, out); break;
        default: run_elementwise(fill_block<std::uint64_t>, &bits, out); break;
    }
    return kKernelOk;
}

struct Progression {
    double start, step;
    std::int64_t stride;
};

template <class T>
void write_progression(const Progression& p, T* out, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
        out[i * p.stride] = convert<T>(p.start + static_cast<double>(i) * p.step);
    }
}

// Whole starts and steps stay exact beyond 2^53.
void write_integers(const Progression& p, std::int64_t* out, std::int64_t begin, std::int64_t end) {
    if (p.start != std::trunc(p.start) || p.step != std::trunc(p.step)) {
        return write_progression(p, out, begin, end);
    }
    const std::uint64_t start = static_cast<std::uint64_t>(static_cast<std::int64_t>(p.start));
    const std::uint64_t step = static_cast<std::uint64_t>(static_cast<std::int64_t>(p.step));
    for (std::int64_t i = begin; i < end; ++i) {
        out[i * p.stride] = static_cast<std::int64_t>(start + static_cast<std::uint64_t>(i) * step);
    }
}

// `out` is 1-d, or contiguous and then numbered in row-major order.
KernelStatus arange(const KernelContext&, const TensorView& out, double start, double step) {
    const TensorView* const views[] = {&out};
    const StridedLoop loop = make_strided_loop(views, 1);
    if (loop.count == 0) return kKernelOk;
    if (loop.dimensions > 1) return kKernelFailed;
    switch (out.dtype) {
        case DType::f32:
        case DType::bf16:
        case DType::f64:
        case DType::i64:
        case DType::i32: break;
        default: return kKernelUnsupportedDtype;
    }
    const Progression p = {start, step, loop.strides[0][0]};
    parallel_for(loop.count, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
        switch (out.dtype) {
            case DType::f32: return write_progression(p, out.as<float>(), begin, end);
            case DType::bf16: return write_progression(p, out.as<bfloat16>(), begin, end);
            case DType::f64: return write_progression(p, out.as<double>(), begin, end);
            case DType::i64: return write_integers(p, out.as<std::int64_t>(), begin, end);
            default: return write_progression(p, out.as<std::int32_t>(), begin, end);
        }
    });
    return kKernelOk;
}

}  // namespace

void register_fill(KernelTable& table) {
    table.fill = fill;
    table.arange = arange;
}

}  // namespace tempra::cpu::TEMPRA_ISA
