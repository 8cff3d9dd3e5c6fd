// What a kernel can only find out on the device, where no status can be returned without waiting:
// it is left in one word of device memory, and the next `stream_synchronize` reports it.
#pragma once

#include <cstdint>

namespace tempra::cuda {

enum DeviceFault : std::int32_t {
    kNoFault = 0,
    kEmbeddingIndexOutOfRange = 1,
    kSegmentsOutOfOrder = 2,
    kLabelOutOfRange = 3,
    kPositionOutOfRange = 4,
    kIndexOutOfRange = 5,
    kNothingToDraw = 6,
    kNoIntegerResult = 7,
};

[[nodiscard]] constexpr const char* describe(std::int32_t fault) {
    switch (fault) {
        case kNoFault: return "";
        case kEmbeddingIndexOutOfRange:
            return "embedding: an index is outside the table's rows (found on the device)";
        case kSegmentsOutOfOrder:
            return "optimizer: arena segments overlap or do not ascend (found on the device)";
        case kLabelOutOfRange:
            return "linear_cross_entropy: a label is outside the vocabulary and is not "
                   "ignore_index (found on the device)";
        case kPositionOutOfRange:
            return "rotary: a position is outside the tables (found on the device)";
        case kIndexOutOfRange:
            return "gather or scatter: an index is outside the indexed dimension (found on the "
                   "device)";
        case kNothingToDraw:
            return "categorical: a row has no finite logit, or one that is NaN or infinite (found "
                   "on the device)";
        case kNoIntegerResult:
            return "binary: integers divided by zero, or raised to a negative power (found on the "
                   "device)";
        default: return "a fault of unknown number was found on the device";
    }
}

// Reported as TEMPRA_CUDA_INDEX_OUT_OF_RANGE.
[[nodiscard]] constexpr bool is_index_fault(std::int32_t fault) {
    return fault == kEmbeddingIndexOutOfRange || fault == kLabelOutOfRange ||
           fault == kPositionOutOfRange || fault == kIndexOutOfRange;
}

}  // namespace tempra::cuda
