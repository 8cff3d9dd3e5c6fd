// What cuDNN reads beside our tensors, made on the device (kernels/cudnn_tables.cu).
#pragma once

#include <array>
#include <cstdint>

#include "cudnn_attention_shape.h"

namespace tempra::cuda {

// Where packed sequences begin in each tensor and how long they are, in one block: lengths
// [sequences] first, then for each tensor that the plan has, in order, [sequences + 1]. Each begins
// at 16 bytes, as cuDNN is told of every tensor.
struct CudnnTables {
    const std::int32_t* offsets = nullptr;
    std::int64_t offsets_stride = 1, given = 0;  // sequences that there are
    std::int64_t sequences = 0;                  // that the plan has room for
    std::int32_t count = 0;                      // tables
    std::array<std::int64_t, kCudnnRows> row_strides{};
    std::int32_t* out = nullptr;

    [[nodiscard]] TEMPRA_HOST_DEVICE std::int32_t* table(int number) const {
        return out + spaced(sequences) + number * spaced(sequences + 1);
    }
    [[nodiscard]] static std::int64_t bytes(std::int64_t sequences, std::int64_t count) {
        return 4 * (spaced(sequences) + count * spaced(sequences + 1));
    }

  private:
    [[nodiscard]] static TEMPRA_HOST_DEVICE std::int64_t spaced(std::int64_t entries) {
        return (entries + 3) / 4 * 4;
    }
};
[[nodiscard]] KernelStatus make_cudnn_tables(const KernelContext& context,
                                             const CudnnTables& tables);

// Log-sum-exps between our [heads, tokens] and cuDNN's [tokens, heads] (`length` 0) or [sequences,
// heads, length]. Rows outside of the sequences are left as they are.
struct CudnnStatistics {
    const std::int32_t* offsets = nullptr;
    std::int64_t offsets_stride = 1, given = 0;
    std::int64_t heads = 0, tokens = 0, length = 0;
    float *ours = nullptr, *theirs = nullptr;

    [[nodiscard]] TEMPRA_HOST_DEVICE std::int64_t their_place(std::int64_t head,
                                                              std::int64_t token) const {
        if (length == 0) return token * heads + head;
        return (token / length * heads + head) * length + token % length;
    }
};
[[nodiscard]] KernelStatus move_statistics(const KernelContext& context, const CudnnStatistics& s,
                                           bool to_theirs);

}  // namespace tempra::cuda
