// gather: out[.., i, ..] = in[.., index[.., i, ..], ..]; scatter: out[.., index[.., i, ..], ..]
// (+)= source[.., i, ..].
//
// Bytes moved: index and the elements once each; rows whose index is one broadcast value move
// whole. Mapping: gather by fixed chunks of elements; scatter by lines along `dimension`, which no
// other line writes into, so that equal indices meet in order of position: deterministic without
// atomics. Sums in the dtype of `out` (bf16 rounds after each term).
#include <cstring>

#include "kernels/line_nest.h"
#include "kernels/register.h"
#include "kernels/strided_loop.h"
#include "simd/vec.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kStrip = 256;

// Set by any thread; read when all are done.
class RangeError {
  public:
    void set() { __atomic_store_n(&seen_, 1, __ATOMIC_RELAXED); }
    [[nodiscard]] KernelStatus status() const {
        return seen_ == 0 ? kKernelOk : kKernelIndexOutOfRange;
    }

  private:
    int seen_ = 0;
};

inline bool is_inside(std::int64_t index, std::int64_t extent) {
    return static_cast<std::uint64_t>(index) < static_cast<std::uint64_t>(extent);
}

// One innermost run: strides in elements.
struct GatherRun {
    std::int64_t out_stride, index_stride, in_stride, dimension_stride, extent;
};

template <class Bits, class Index>
bool gather_run(const GatherRun& run, const char* in_bytes, const char* index_bytes,
                char* out_bytes, std::int64_t n) {
    typedef Bits __attribute__((may_alias)) Element;
    const Element* in = reinterpret_cast<const Element*>(in_bytes);
    const Index* index = reinterpret_cast<const Index*>(index_bytes);
    Element* out = reinterpret_cast<Element*>(out_bytes);
    if (run.index_stride == 0 && run.in_stride == 1 && run.out_stride == 1) {
        if (!is_inside(index[0], run.extent)) return false;
        std::memcpy(out, in + index[0] * run.dimension_stride,
                    static_cast<std::size_t>(n) * sizeof(Bits));
        return true;
    }
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t at = index[i * run.index_stride];
        if (!is_inside(at, run.extent)) return false;
        out[i * run.out_stride] = in[i * run.in_stride + at * run.dimension_stride];
    }
    return true;
}

template <class Bits, class Index>
KernelStatus gather_all(const StridedLoop& loop, std::int64_t dimension_stride,
                        std::int64_t extent) {
    const int last = loop.dimensions - 1;
    const GatherRun run = {loop.strides[0][last], loop.strides[1][last], loop.strides[2][last],
                           dimension_stride, extent};
    const std::int64_t length = loop.sizes[last];
    RangeError error;
    parallel_for(loop.count, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
        while (begin < end) {
            const std::int64_t column = begin % length;
            const std::int64_t n = length - column < end - begin ? length - column : end - begin;
            char* operands[3];
            for (int k = 0; k < 3; ++k) {
                std::int64_t offset = column * loop.strides[k][last], rest = begin / length;
                for (int d = last - 1; d >= 0; --d) {
                    offset += rest % loop.sizes[d] * loop.strides[k][d];
                    rest /= loop.sizes[d];
                }
                operands[k] = loop.data[k] + offset * loop.element_size[k];
            }
            if (!gather_run<Bits, Index>(run, operands[2], operands[1], operands[0], n))
                error.set();
            begin += n;
        }
    });
    return error.status();
}

template <class Index>
KernelStatus gather_indexed(const StridedLoop& loop, std::int64_t stride, std::int64_t extent) {
    switch (loop.element_size[0]) {
        case 1: return gather_all<std::uint8_t, Index>(loop, stride, extent);
        case 2: return gather_all<std::uint16_t, Index>(loop, stride, extent);
        case 4: return gather_all<std::uint32_t, Index>(loop, stride, extent);
        default: return gather_all<std::uint64_t, Index>(loop, stride, extent);
    }
}

KernelStatus gather(const KernelContext&, const TensorView& in, std::int32_t dimension,
                    const TensorView& index, const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    // Along `dimension` the input moves by the index alone.
    TensorView base = in;
    std::int64_t extent = 1, stride = 0;
    if (in.dimensions > 0) {
        extent = in.sizes[dimension];
        stride = in.strides[dimension];
        base.strides[dimension] = 0;
    }
    const TensorView* const views[] = {&out, &index, &base};
    const StridedLoop loop = make_strided_loop(views, 3);
    if (loop.count == 0) return kKernelOk;
    if (index.dtype == DType::i64) return gather_indexed<std::int64_t>(loop, stride, extent);
    if (index.dtype == DType::i32) return gather_indexed<std::int32_t>(loop, stride, extent);
    return kKernelUnsupportedDtype;
}

// Element types: integers only need their bits for assignment and wrap when added.
template <class T>
inline void add_to(T& target, T value) {
    target = from_arithmetic<T>(to_arithmetic(target) + to_arithmetic(value));
}
[[maybe_unused]] inline void add_to(std::uint32_t& target, std::uint32_t value) { target += value; }
[[maybe_unused]] inline void add_to(std::uint64_t& target, std::uint64_t value) { target += value; }

// Bits may stand for elements of any type of their size.
template <class T>
struct MemoryType {
    using type = T;
};
template <>
struct MemoryType<std::uint8_t> {
    typedef std::uint8_t __attribute__((may_alias)) type;
};
template <>
struct MemoryType<std::uint16_t> {
    typedef std::uint16_t __attribute__((may_alias)) type;
};
template <>
struct MemoryType<std::uint32_t> {
    typedef std::uint32_t __attribute__((may_alias)) type;
};
template <>
struct MemoryType<std::uint64_t> {
    typedef std::uint64_t __attribute__((may_alias)) type;
};

template <class T, class Index, bool kAdd>
KernelStatus scatter_all(const TensorView& source, int dimension, const TensorView& index,
                         const TensorView& out) {
    using Element = typename MemoryType<T>::type;
    const TensorView* const views[] = {&source, &index, &out};
    const LineNest nest = make_line_nest(views, 3, dimension);
    const bool scalar = dimension < 0;
    const std::int64_t length = scalar ? 1 : index.sizes[dimension];
    const std::int64_t extent = scalar ? 1 : out.sizes[dimension];
    const std::int64_t source_step = scalar ? 0 : source.strides[dimension];
    const std::int64_t index_step = scalar ? 0 : index.strides[dimension];
    const std::int64_t out_step = scalar ? 0 : out.strides[dimension];
    const std::int64_t strip = source_step == 1 && length > 1 ? 1 : kStrip;
    RangeError error;
    for_each_strip(nest, length, strip, [&](const std::int64_t* offset, std::int64_t lines) {
        const Element* from = static_cast<const Element*>(source.data) + offset[0];
        const Index* where = static_cast<const Index*>(index.data) + offset[1];
        Element* to = static_cast<Element*>(out.data) + offset[2];
        for (std::int64_t r = 0; r < length; ++r) {
            for (std::int64_t c = 0; c < lines; ++c) {
                const std::int64_t at = where[r * index_step + c * nest.inner_stride(1)];
                if (!is_inside(at, extent)) return error.set();
                const T value = from[r * source_step + c * nest.inner_stride(0)];
                Element& target = to[at * out_step + c * nest.inner_stride(2)];
                if constexpr (kAdd) {
                    T sum = target;
                    add_to(sum, value);
                    target = sum;
                } else {
                    target = value;
                }
            }
        }
    });
    return error.status();
}

template <class T, bool kAdd>
KernelStatus scatter_typed(const TensorView& source, int dimension, const TensorView& index,
                           const TensorView& out) {
    if (index.dtype == DType::i64) {
        return scatter_all<T, std::int64_t, kAdd>(source, dimension, index, out);
    }
    if (index.dtype == DType::i32) {
        return scatter_all<T, std::int32_t, kAdd>(source, dimension, index, out);
    }
    return kKernelUnsupportedDtype;
}

KernelStatus scatter(const KernelContext&, const TensorView& source, std::int32_t dimension,
                     const TensorView& index, std::int32_t add, const TensorView& out) {
    if (source.dtype != out.dtype) return kKernelUnsupportedDtype;
    if (index.dimensions == 0) dimension = -1;
    if (add == 0) {
        switch (size_of(out.dtype)) {
            case 1: return scatter_typed<std::uint8_t, false>(source, dimension, index, out);
            case 2: return scatter_typed<std::uint16_t, false>(source, dimension, index, out);
            case 4: return scatter_typed<std::uint32_t, false>(source, dimension, index, out);
            default: return scatter_typed<std::uint64_t, false>(source, dimension, index, out);
        }
    }
    switch (out.dtype) {
        case DType::f32: return scatter_typed<float, true>(source, dimension, index, out);
        case DType::bf16: return scatter_typed<bfloat16, true>(source, dimension, index, out);
#if defined(TEMPRA_ISA_IS_baseline)
        case DType::f64: return scatter_typed<double, true>(source, dimension, index, out);
        case DType::i64: return scatter_typed<std::uint64_t, true>(source, dimension, index, out);
        case DType::i32: return scatter_typed<std::uint32_t, true>(source, dimension, index, out);
#endif
        default: return kKernelUnsupportedDtype;
    }
}

}  // namespace

void register_indexing(KernelTable& table) {
    table.gather = gather;
    table.scatter = scatter;
}

}  // namespace tempra::cpu::TEMPRA_ISA
