// out[t] = weight[indices[t]]; backward: grad_weight[indices[t]] += grad_out[t].
//
// Bytes moved: forward a row in and a row out per token; backward a row of grad_out in per token,
// one row of grad_weight in and out per distinct index, and about 100 bytes per token for sorting.
// Thread-to-data: forward one thread per pack of a token's row; backward tokens are sorted by index
// (a stable radix sort), then one block takes each index that occurs and a slice of columns, and
// adds that index's tokens in order of position, as the CPU does: deterministic, without atomics.
// An index of very many tokens is therefore one block's serial work. An index out of range leaves a
// fault for `stream_synchronize`; its token gives zeros and no gradient.
#include "device_fault.h"
#include "devices.h"
#include "element_map.cuh"
#include "parameter_types.cuh"
#include "radix_sort.h"
#include "row_shape.h"

namespace tempra::cuda {

namespace {

struct Indices {
    const void* data;
    std::int64_t stride, count;
    bool wide;  // i64, else i32

    __device__ __forceinline__ std::int64_t at(std::int64_t t) const {
        return wide ? static_cast<const std::int64_t*>(data)[t * stride]
                    : static_cast<const std::int32_t*>(data)[t * stride];
    }
};

Indices indices_of(const TensorView& view) {
    return {view.data, view.stride(0), view.size(0), view.dtype == DType::i64};
}

template <class T, class W, int kPack>
__global__ void __launch_bounds__(kElementwiseThreads)
    copy_rows(const Indices indices, const W* weight, std::int64_t weight_stride,
              std::int64_t vocabulary, T* out, std::int64_t out_stride, std::int64_t columns,
              std::int64_t packs_per_row, std::int32_t* fault) {
    const std::int64_t pack = thread_number();
    if (pack >= indices.count * packs_per_row) return;
    const std::int64_t t = pack / packs_per_row;
    const std::int64_t column = (pack - t * packs_per_row) * kPack;
    const int count = columns - column < kPack ? static_cast<int>(columns - column) : kPack;
    const std::int64_t index = indices.at(t);
    float v[kPack] = {};
    if (index < 0 || index >= vocabulary) {
        *fault = kEmbeddingIndexOutOfRange;
    } else if (count == kPack) {
        load_whole<W, kPack>(weight + index * weight_stride + column, v);
    } else {
        load_first<W, kPack>(weight + index * weight_stride + column, count, 0.0F, v);
    }
    T* const to = out + t * out_stride + column;
    if (count == kPack) {
        store_whole<T, kPack>(v, to);
    } else {
        store_first<T, kPack>(v, count, to);
    }
}

KernelStatus embedding(const KernelContext& context, const TensorView& weight,
                       const TensorView& indices, const TensorView& out) {
    if (indices.dtype != DType::i64 && indices.dtype != DType::i32) return kKernelUnsupportedDtype;
    if (out.numel() > 0 && (weight.stride(1) != 1 || out.stride(1) != 1)) {
        return fail(kKernelFailed, "embedding: rows of unit stride are needed");
    }
    return with_parameter_dtype(out.dtype, weight.dtype, [&](auto tag, auto weight_tag) {
        using T = typename decltype(tag)::type;
        using W = typename decltype(weight_tag)::type;
        const bool packs = rows_are_aligned(weight) && rows_are_aligned(out);
        const std::int64_t columns = out.size(1);
        const std::int64_t packs_per_row = divide_up(columns, packs ? kPackOf<T> : 1);
        const std::int64_t blocks = grid_for(out.size(0) * packs_per_row, kElementwiseThreads);
        const KernelStatus status = check_launch("embedding", context, blocks);
        if (status != kKernelOk || blocks == 0) return status;
        DeviceState* const device = current_device();
        if (device == nullptr) return kKernelFailed;
        const auto kernel = packs ? copy_rows<T, W, kPackOf<T>> : copy_rows<T, W, 1>;
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(
            indices_of(indices), weight.as<const W>(), weight.stride(0), weight.size(0),
            out.as<T>(), out.stride(0), columns, packs_per_row, device->fault);
        return static_cast<KernelStatus>(finish_launch("embedding", context.stream));
    });
}

// What is sorted: an index (the vocabulary's size for one out of range, which sorts last) with the
// token's position.
__global__ void __launch_bounds__(kElementwiseThreads)
    make_keys(const Indices indices, std::int64_t vocabulary, std::uint32_t* keys,
              std::uint32_t* positions, std::int32_t* fault) {
    const std::int64_t t = thread_number();
    if (t >= indices.count) return;
    const std::int64_t index = indices.at(t);
    const bool valid = index >= 0 && index < vocabulary;
    if (!valid) *fault = kEmbeddingIndexOutOfRange;
    keys[t] = static_cast<std::uint32_t>(valid ? index : vocabulary);
    positions[t] = static_cast<std::uint32_t>(t);
}

// Block x, of the sorted tokens: works when an index begins there.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    add_rows(const std::uint32_t* keys, const std::uint32_t* positions, std::int64_t tokens,
             std::int64_t vocabulary, const T* grad_out, std::int64_t grad_out_stride,
             float* grad_weight, std::int64_t grad_weight_stride, std::int64_t columns) {
    const std::int64_t begin = blockIdx.x;
    const std::uint32_t key = keys[begin];
    if (key >= vocabulary || (begin > 0 && keys[begin - 1] == key)) return;
    const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    float* const to = grad_weight + key * grad_weight_stride + column;
    float sum = *to;
    for (std::int64_t i = begin; i < tokens && keys[i] == key; ++i) {
        sum += to_arithmetic(grad_out[positions[i] * grad_out_stride + column]);
    }
    *to = sum;
}

KernelStatus sort_tokens(const KernelContext& context, const Indices& indices,
                         std::int64_t vocabulary, RadixSort<std::uint32_t>& order,
                         std::int32_t* fault) {
    make_keys<<<static_cast<unsigned>(grid_for(indices.count, kElementwiseThreads)),
                kElementwiseThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
        indices, vocabulary, order.keys, order.positions, fault);
    const KernelStatus status = finish_launch("embedding_backward: keys", context.stream);
    return status == kKernelOk ? order.sort(bits_for(vocabulary)) : status;
}

KernelStatus embedding_backward(const KernelContext& context, const TensorView& grad_out,
                                const TensorView& indices, const TensorView& grad_weight) {
    if (indices.dtype != DType::i64 && indices.dtype != DType::i32) return kKernelUnsupportedDtype;
    if (grad_weight.dtype != DType::f32) return kKernelUnsupportedDtype;
    const std::int64_t tokens = indices.size(0), columns = grad_out.size(1);
    const std::int64_t vocabulary = grad_weight.size(0);
    KernelStatus status = check_launch("embedding_backward", context, 1);
    if (status != kKernelOk || tokens * columns == 0) return status;
    if (tokens > INT32_MAX || vocabulary > INT32_MAX) {
        return fail(kKernelFailed, "embedding_backward: more than 2^31 - 1 tokens or rows");
    }
    if (grad_out.stride(1) != 1 || grad_weight.stride(1) != 1) {
        return fail(kKernelFailed, "embedding_backward: rows of unit stride are needed");
    }
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    RadixSort<std::uint32_t> order("embedding_backward: sort", tokens, bits_for(vocabulary),
                                   context.stream);
    status = order.status();
    if (status == kKernelOk) {
        status = sort_tokens(context, indices_of(indices), vocabulary, order, device->fault);
    }
    if (status != kKernelOk) return status;
    return with_compute_dtype(grad_out.dtype, [&](auto tag) -> KernelStatus {
        using T = typename decltype(tag)::type;
        const int threads = row_threads(columns, 1) < 256 ? row_threads(columns, 1) : 256;
        const std::int64_t slices = divide_up(columns, threads);
        if (slices > 65535) return fail(kKernelFailed, "embedding_backward: rows too wide");
        add_rows<T><<<dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(slices)), threads,
                      0, static_cast<cudaStream_t>(context.stream)>>>(
            order.sorted_keys, order.sorted_positions, tokens, vocabulary, grad_out.as<const T>(),
            grad_out.stride(0), grad_weight.as<float>(), grad_weight.stride(0), columns);
        return finish_launch("embedding_backward", context.stream);
    });
}

}  // namespace

void register_embedding(KernelTable& table) {
    table.embedding = embedding;
    table.embedding_backward = embedding_backward;
}

}  // namespace tempra::cuda
