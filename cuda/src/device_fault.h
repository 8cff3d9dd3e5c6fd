// What a kernel can only find out on the device, where no status can be returned without waiting:
// it is left in one word of device memory, and the next `stream_synchronize` reports it.
#pragma once

#include <cstdint>

namespace tempra::cuda {

enum DeviceFault : std::int32_t {
    kNoFault = 0,
    kEmbeddingIndexOutOfRange = 1,
    kSegmentsOutOfOrder = 2,
};

[[nodiscard]] constexpr const char* describe(std::int32_t fault) {
    switch (fault) {
        case kNoFault: return "";
        case kEmbeddingIndexOutOfRange:
            return "embedding: an index is outside the table's rows (found on the device)";
        case kSegmentsOutOfOrder:
            return "optimizer: arena segments overlap or do not ascend (found on the device)";
        default: return "a fault of unknown number was found on the device";
    }
}

}  // namespace tempra::cuda
