// out[t] = weight[indices[t]]; backward: grad_weight[indices[t]] += grad_out[t].
//
// Bytes moved: forward a row in and out per token; backward a row of grad_out in and a row of
// grad_weight in and out per token. Mapping: forward tokens over threads, backward blocks of
// columns over threads, each taking all tokens in order, so that equal indices are added in order
// of position without atomics: deterministic. Indices are checked before anything is written.
#include <cstring>

#include "kernels/compute_dtype.h"
#include "kernels/convert.h"
#include "kernels/line_nest.h"
#include "kernels/register.h"
#include "simd/row_loop.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

constexpr std::int64_t kColumnBlock = 64;

std::int64_t index_at(const TensorView& indices, std::int64_t t) {
    const std::int64_t at = t * indices.strides[0];
    return indices.dtype == DType::i64 ? indices.as<std::int64_t>()[at]
                                       : indices.as<std::int32_t>()[at];
}

KernelStatus check_indices(const TensorView& indices, std::int64_t vocabulary) {
    if (indices.dtype != DType::i64 && indices.dtype != DType::i32) return kKernelUnsupportedDtype;
    for (std::int64_t t = 0; t < indices.sizes[0]; ++t) {
        const std::int64_t index = index_at(indices, t);
        if (index < 0 || index >= vocabulary) return kKernelIndexOutOfRange;
    }
    return kKernelOk;
}

// A row of `width` elements, converted where the dtypes differ.
template <class From, class To>
void copy_row(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
              std::int64_t width) {
    if (from_stride != 1 || to_stride != 1) {
        for (std::int64_t c = 0; c < width; ++c) {
            to[c * to_stride] = from_arithmetic<To>(to_arithmetic(from[c * from_stride]));
        }
    } else if constexpr (__is_same(From, To)) {
        std::memcpy(to, from, static_cast<std::size_t>(width) * sizeof(To));
    } else {
        for_each_vector<float>(width, [&](std::int64_t c, auto lanes) {
            store<float>(to + c, load<float>(from + c, lanes), lanes);
        });
    }
}

KernelStatus embedding(const KernelContext&, const TensorView& weight, const TensorView& indices,
                       const TensorView& out) {
    const KernelStatus status = check_indices(indices, weight.sizes[0]);
    if (status != kKernelOk) return status;
    const std::int64_t tokens = indices.sizes[0], width = weight.sizes[1];
    return with_compute_dtype(out.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return with_parameter_dtype<T>(
            out.dtype, weight.dtype, [&](auto weight_tag) -> KernelStatus {
                using W = typename decltype(weight_tag)::type;
                if constexpr (__is_same(T, double) && !__is_same(W, double)) {
                    return kKernelUnsupportedDtype;
                } else {
                    parallel_for(
                        tokens, lines_per_chunk(width), [&](std::int64_t begin, std::int64_t end) {
                            for (std::int64_t t = begin; t < end; ++t) {
                                copy_row(weight.as<W>() + index_at(indices, t) * weight.strides[0],
                                         weight.strides[1], out.as<T>() + t * out.strides[0],
                                         out.strides[1], width);
                            }
                        });
                    return kKernelOk;
                }
            });
    });
}

template <class T, class G>
void add_columns(const TensorView& grad_out, const TensorView& indices,
                 const TensorView& grad_weight, std::int64_t begin, std::int64_t end) {
    const bool contiguous = grad_out.strides[1] == 1 && grad_weight.strides[1] == 1;
    for (std::int64_t t = 0; t < indices.sizes[0]; ++t) {
        const T* from = grad_out.as<T>() + t * grad_out.strides[0];
        G* to = grad_weight.as<G>() + index_at(indices, t) * grad_weight.strides[0];
        if (contiguous) {
            for_each_vector<G>(end - begin, [&](std::int64_t c, auto lanes) {
                store<G>(to + begin + c,
                         load<G>(to + begin + c, lanes) + load<G>(from + begin + c, lanes), lanes);
            });
        } else {
            for (std::int64_t c = begin; c < end; ++c) {
                to[c * grad_weight.strides[1]] +=
                    static_cast<G>(to_arithmetic(from[c * grad_out.strides[1]]));
            }
        }
    }
}

KernelStatus embedding_backward(const KernelContext&, const TensorView& grad_out,
                                const TensorView& indices, const TensorView& grad_weight) {
    const KernelStatus status = check_indices(indices, grad_weight.sizes[0]);
    if (status != kKernelOk) return status;
    return with_compute_dtype(grad_out.dtype, [&](auto tag) -> KernelStatus {
        using T = typename decltype(tag)::type;
        using G = Arithmetic<T>;
        if (grad_weight.dtype != (__is_same(G, double) ? DType::f64 : DType::f32)) {
            return kKernelUnsupportedDtype;
        }
        const std::int64_t width = grad_out.sizes[1];
        const std::int64_t small = indices.sizes[0] * width < kLineGrain;
        parallel_for(width, small != 0 ? width : kColumnBlock,
                     [&](std::int64_t begin, std::int64_t end) {
                         add_columns<T, G>(grad_out, indices, grad_weight, begin, end);
                     });
        return kKernelOk;
    });
}

}  // namespace

void register_embedding(KernelTable& table) {
    table.embedding = embedding;
    table.embedding_backward = embedding_backward;
}

}  // namespace tempra::cpu::TEMPRA_ISA
