// How the logits of a loss are cut into chunks of rows. Plain C++ and host-tested.
#pragma once

#include <cstdint>

#include "launch_shape.h"

namespace tempra::cuda {

inline constexpr std::int64_t kLogitBytes = std::int64_t{512} << 20;
inline constexpr std::int64_t kFewestLossRows = 64;

struct LossChunks {
    std::int64_t rows = 0;    // of a chunk
    std::int64_t stride = 0;  // between rows, in fp32 elements: packs of 16 bytes in bf16 too
};

// Equal chunks, as few as fit; `wanted` 0: chosen here.
[[nodiscard]] constexpr LossChunks loss_chunks(std::int64_t tokens, std::int64_t vocabulary,
                                               std::int64_t wanted) {
    LossChunks chunks;
    chunks.stride = divide_up(vocabulary, 8) * 8;
    if (wanted <= 0) {
        const std::int64_t fit = chunks.stride > 0 ? kLogitBytes / (chunks.stride * 4) : tokens;
        const std::int64_t most = fit > kFewestLossRows ? fit : kFewestLossRows;
        const std::int64_t count = tokens > 0 ? divide_up(tokens, most) : 1;
        wanted = divide_up(divide_up(tokens, count), 64) * 64;
    }
    chunks.rows = wanted < tokens ? wanted : tokens;
    return chunks;
}

}  // namespace tempra::cuda
