// What cuDNN's attention reads beside our tensors: begin[t][s] = offset[s] * row stride of tensor t
// and length[s] = offset[s + 1] - offset[s] of packed sequences, and log-sum-exps in its layout.
//
// Bytes moved: offsets read once per table; each log-sum-exp read and written once.
// Thread-to-data: a thread per sequence; a thread per log-sum-exp, neighbours on neighbouring
// tokens of a head. Deterministic: each result is written by one thread from one input.
#include "cudnn_tables.h"
#include "element_map.cuh"

namespace tempra::cuda {

namespace {

__global__ void __launch_bounds__(kElementwiseThreads)
    write_tables(const __grid_constant__ CudnnTables tables) {
    const std::int64_t entry = thread_number();
    if (entry > tables.sequences) return;
    if (entry < tables.sequences) {
        tables.out[entry] =
            ragged_length(tables.offsets, tables.offsets_stride, tables.given, entry);
    }
    for (int number = 0; number < tables.count; ++number) {
        tables.table(number)[entry] = ragged_begin(tables.offsets, tables.offsets_stride,
                                                   tables.given, entry, tables.row_strides[number]);
    }
}

__global__ void __launch_bounds__(kElementwiseThreads)
    copy_statistics(const __grid_constant__ CudnnStatistics s, bool to_theirs) {
    const std::int64_t place = thread_number();
    if (place >= s.heads * s.tokens) return;
    const std::int64_t head = place / s.tokens, token = place % s.tokens;
    if (token < s.offsets[0] || token >= s.offsets[s.given * s.offsets_stride]) return;
    const std::int64_t theirs = s.their_place(head, token);
    if (to_theirs) {
        s.theirs[theirs] = s.ours[place];
    } else {
        s.ours[place] = s.theirs[theirs];
    }
}

}  // namespace

KernelStatus make_cudnn_tables(const KernelContext& context, const CudnnTables& tables) {
    const std::int64_t blocks = grid_for(tables.sequences + 1, kElementwiseThreads);
    const KernelStatus status = check_launch("attention: tables", context, blocks);
    if (status != kKernelOk) return status;
    write_tables<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                   static_cast<cudaStream_t>(context.stream)>>>(tables);
    return static_cast<KernelStatus>(finish_launch("attention: tables", context.stream));
}

KernelStatus move_statistics(const KernelContext& context, const CudnnStatistics& s,
                             bool to_theirs) {
    const std::int64_t blocks = grid_for(s.heads * s.tokens, kElementwiseThreads);
    const KernelStatus status = check_launch("attention: statistics", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    copy_statistics<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                      static_cast<cudaStream_t>(context.stream)>>>(s, to_theirs);
    return static_cast<KernelStatus>(finish_launch("attention: statistics", context.stream));
}

}  // namespace tempra::cuda
