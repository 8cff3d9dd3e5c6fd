// out = in for any dtypes and strides; out += in.
//
// Bytes moved: in and out once each. Mapping: fixed chunks of elements over threads
// (strided_loop.h); a copy that turns rows into columns goes by square tiles, so that both sides
// use whole cache lines. Deterministic: every element is moved alone.
#include <cstring>

#include "kernels/block_map.h"
#include "kernels/compute_dtype.h"
#include "kernels/convert.h"
#include "kernels/register.h"
#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

template <int kBytes>
void move_block(const void*, char* const* operands, std::int64_t n) {
    std::memmove(operands[0], operands[1], static_cast<std::size_t>(n) * kBytes);
}

template <class From, class To>
void convert_block(const void*, char* const* operands, std::int64_t n) {
    To* out = reinterpret_cast<To*>(operands[0]);
    const From* in = reinterpret_cast<const From*>(operands[1]);
    constexpr bool kWhole = (__is_same(From, float) && __is_same(To, bfloat16)) ||
                            (__is_same(From, bfloat16) && __is_same(To, float));
    if constexpr (kWhole) {
        for (std::int64_t i = 0; i < n; i += kLanes<float>) {
            store_up_to<float>(out + i, load_up_to<float>(in + i, n - i), n - i);
        }
    } else {
        for (std::int64_t i = 0; i < n; ++i) out[i] = convert<To>(in[i]);
    }
}

// body(TypeTag<storage type>{})
template <class Body>
BlockFunction with_storage_type(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::f32: return body(TypeTag<float>{});
        case DType::bf16: return body(TypeTag<bfloat16>{});
        case DType::f16: return body(TypeTag<float16>{});
        case DType::f64: return body(TypeTag<double>{});
        case DType::i64: return body(TypeTag<std::int64_t>{});
        case DType::i32: return body(TypeTag<std::int32_t>{});
        case DType::u32: return body(TypeTag<std::uint32_t>{});
        case DType::u16: return body(TypeTag<std::uint16_t>{});
        case DType::u8: return body(TypeTag<std::uint8_t>{});
        case DType::boolean: return body(TypeTag<Boolean>{});
    }
    return nullptr;
}

template <class From, class To>
inline constexpr bool kHasConversion =
#if defined(TEMPRA_ISA_IS_baseline)
    !__is_same(From, To);
#else
    !__is_same(From, To) && (__is_same(From, float) || __is_same(From, bfloat16) ||
                             __is_same(To, float) || __is_same(To, bfloat16));
#endif

BlockFunction conversion(DType from, DType to) {
    return with_storage_type(from, [&](auto from_tag) {
        return with_storage_type(to, [&](auto to_tag) -> BlockFunction {
            using From = typename decltype(from_tag)::type;
            using To = typename decltype(to_tag)::type;
            if constexpr (kHasConversion<From, To>) {
                return convert_block<From, To>;
            } else {
                return nullptr;
            }
        });
    });
}

constexpr std::int64_t kTile = 64;

// A copy whose innermost output dimension is not the input's: `row` steps by one element in the
// input, the last dimension by one in the output.
struct Transposition {
    StridedLoop loop;
    int row = -1;
    std::int64_t tiles_per_plane, column_tiles, planes;
};

bool find_transposition(Transposition& plan) {
    const StridedLoop& loop = plan.loop;
    const int last = loop.dimensions - 1;
    if (loop.count == 0 || loop.strides[0][last] != 1 || loop.strides[1][last] <= 1) return false;
    for (int d = 0; d < last; ++d) {
        if (loop.strides[1][d] == 1) plan.row = d;
    }
    if (plan.row < 0 || loop.sizes[last] < 8 || loop.sizes[plan.row] < 8) return false;
    plan.column_tiles = (loop.sizes[last] + kTile - 1) / kTile;
    plan.tiles_per_plane = plan.column_tiles * ((loop.sizes[plan.row] + kTile - 1) / kTile);
    plan.planes = loop.count / (loop.sizes[last] * loop.sizes[plan.row]);
    return true;
}

// A square of 64-byte lines: out[i * out_stride + j] = in[j * in_stride + i] for i, j < lines. Each
// line of either side is touched once, whole, since strides that are powers of two let few of them
// share the first-level cache.
template <class Bits, std::int64_t kLine>
void transpose_square(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride) {
    Bits rows[kLine][kLine], columns[kLine][kLine];
    constexpr std::int64_t kBytes = sizeof(Bits);
    for (std::int64_t j = 0; j < kLine; ++j) {
        std::memcpy(rows[j], in + j * in_stride * kBytes, sizeof(rows[j]));
    }
    for (std::int64_t j = 0; j < kLine; ++j) {
        for (std::int64_t i = 0; i < kLine; ++i) columns[i][j] = rows[j][i];
    }
    for (std::int64_t i = 0; i < kLine; ++i) {
        std::memcpy(out + i * out_stride * kBytes, columns[i], sizeof(columns[i]));
    }
}

// The same for i < rows, j < columns.
template <class Bits>
void transpose_tile(const char* in, std::int64_t in_stride, char* out, std::int64_t out_stride,
                    std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kBytes = sizeof(Bits);
    constexpr std::int64_t kLine = kBytes == 1 ? 32 : 64 / kBytes;
    const std::int64_t whole_rows = rows / kLine * kLine, whole_columns = columns / kLine * kLine;
    for (std::int64_t j = 0; j < whole_columns; j += kLine) {
        for (std::int64_t i = 0; i < whole_rows; i += kLine) {
            transpose_square<Bits, kLine>(in + (j * in_stride + i) * kBytes, in_stride,
                                          out + (i * out_stride + j) * kBytes, out_stride);
        }
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
            std::memcpy(out + (i * out_stride + j) * kBytes, in + (j * in_stride + i) * kBytes,
                        kBytes);
        }
    }
}

void transpose_tile_of(std::int64_t element_size, const char* in, std::int64_t in_stride, char* out,
                       std::int64_t out_stride, std::int64_t rows, std::int64_t columns) {
    switch (element_size) {
        case 1: return transpose_tile<std::uint8_t>(in, in_stride, out, out_stride, rows, columns);
        case 2: return transpose_tile<std::uint16_t>(in, in_stride, out, out_stride, rows, columns);
        case 4: return transpose_tile<std::uint32_t>(in, in_stride, out, out_stride, rows, columns);
        default:
            return transpose_tile<std::uint64_t>(in, in_stride, out, out_stride, rows, columns);
    }
}

void transpose_tiles(const Transposition& plan, std::int64_t begin, std::int64_t end) {
    const StridedLoop& loop = plan.loop;
    const int last = loop.dimensions - 1;
    const std::int64_t bytes = loop.element_size[0];
    for (std::int64_t tile = begin; tile < end; ++tile) {
        std::int64_t plane = tile / plan.tiles_per_plane, in_offset = 0, out_offset = 0;
        for (int d = last - 1; d >= 0; --d) {
            if (d == plan.row) continue;
            const std::int64_t index = plane % loop.sizes[d];
            plane /= loop.sizes[d];
            out_offset += index * loop.strides[0][d];
            in_offset += index * loop.strides[1][d];
        }
        const std::int64_t within = tile % plan.tiles_per_plane;
        const std::int64_t i = within / plan.column_tiles * kTile;
        const std::int64_t j = within % plan.column_tiles * kTile;
        const std::int64_t rows = loop.sizes[plan.row] - i, columns = loop.sizes[last] - j;
        out_offset += i * loop.strides[0][plan.row] + j;
        in_offset += j * loop.strides[1][last] + i;
        transpose_tile_of(bytes, loop.data[1] + in_offset * bytes, loop.strides[1][last],
                          loop.data[0] + out_offset * bytes, loop.strides[0][plan.row],
                          rows < kTile ? rows : kTile, columns < kTile ? columns : kTile);
    }
}

void copy_same_dtype(const TensorView& in, const TensorView& out) {
    const TensorView* const views[] = {&out, &in};
    Transposition plan;
    plan.loop = make_strided_loop(views, 2);
    if (find_transposition(plan)) {
        parallel_for(
            plan.planes * plan.tiles_per_plane, kElementGrain / (kTile * kTile),
            [&](std::int64_t begin, std::int64_t end) { transpose_tiles(plan, begin, end); });
        return;
    }
    BlockFunction block = move_block<8>;
    switch (size_of(out.dtype)) {
        case 1: block = move_block<1>; break;
        case 2: block = move_block<2>; break;
        case 4: block = move_block<4>; break;
        default: break;
    }
    run_strided_loop(plan.loop, block, nullptr);
}

KernelStatus copy(const KernelContext&, const TensorView& in, const TensorView& out) {
    if (in.dtype == out.dtype) {
        copy_same_dtype(in, out);
        return kKernelOk;
    }
    const BlockFunction block = conversion(in.dtype, out.dtype);
    if (block == nullptr) return kKernelUnsupportedDtype;
    run_elementwise(block, nullptr, out, in);
    return kKernelOk;
}

// Operands: out, in, out again to read.
template <class In, class Out>
void accumulate_block(const void*, char* const* operands, std::int64_t n) {
    Out* out = reinterpret_cast<Out*>(operands[0]);
    const In* in = reinterpret_cast<const In*>(operands[1]);
    const Out* old = reinterpret_cast<const Out*>(operands[2]);
    if constexpr (__is_same(Arithmetic<In>, float) && __is_same(Arithmetic<Out>, float) &&
                  !__is_same(In, float16) && !__is_same(Out, float16)) {
        for (std::int64_t i = 0; i < n; i += kLanes<float>) {
            const VecFloat sum =
                load_up_to<float>(old + i, n - i) + load_up_to<float>(in + i, n - i);
            store_up_to<float>(out + i, sum, n - i);
        }
    } else {
        for (std::int64_t i = 0; i < n; ++i) {
            out[i] = convert<Out>(convert<double>(old[i]) + convert<double>(in[i]));
        }
    }
}

KernelStatus accumulate(const KernelContext&, const TensorView& in, const TensorView& out) {
    const auto with_float = [](DType dtype, const auto& body) -> BlockFunction {
        switch (dtype) {
            case DType::f32: return body(TypeTag<float>{});
            case DType::bf16: return body(TypeTag<bfloat16>{});
            case DType::f16: return body(TypeTag<float16>{});
            case DType::f64: return body(TypeTag<double>{});
            default: return nullptr;
        }
    };
    const BlockFunction block = with_float(in.dtype, [&](auto in_tag) {
        return with_float(out.dtype, [&](auto out_tag) -> BlockFunction {
            return accumulate_block<typename decltype(in_tag)::type,
                                    typename decltype(out_tag)::type>;
        });
    });
    if (block == nullptr) return kKernelUnsupportedDtype;
    run_elementwise(block, nullptr, out, in, out);
    return kKernelOk;
}

}  // namespace

void register_copy(KernelTable& table) {
    table.copy = copy;
    table.accumulate = accumulate;
}

}  // namespace tempra::cpu::TEMPRA_ISA
