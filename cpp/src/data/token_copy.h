// Ids from a token file as the tokens and labels of a batch.
//
// Reads each id once (4 bytes, or 2) and writes it twice (8 bytes): as a token, and as the label of
// the token before it. One pass, since a second one from tokens to labels costs as much as the
// first: both arrays often begin at the same offset within their pages, which is the slowest case
// of `memcpy`'s string instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tempra/dtype.h"

namespace tempra::data {

// tokens[i] = source[i] for i < count; negative when one is outside 0 .. largest.
[[nodiscard]] std::int32_t copy_tokens(const std::byte* source, DType dtype, std::int64_t count,
                                       std::int32_t largest, std::int32_t* tokens);

// tokens[i] = source[i] and labels[i] = source[i + 1] for i < count; negative when one of these
// count + 1 ids is outside 0 .. largest.
[[nodiscard]] std::int32_t copy_tokens_and_labels(const std::byte* source, DType dtype,
                                                  std::int64_t count, std::int32_t largest,
                                                  std::int32_t* tokens, std::int32_t* labels);

}  // namespace tempra::data
