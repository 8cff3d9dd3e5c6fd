// What a training step reads: tokens, labels and where each sequence begins.
#pragma once

#include <cstdint>
#include <vector>

#include "tempra/data/batch_array.h"
#include "tempra/data/token_stream.h"

namespace tempra::data {

// Sequences laid end to end. Attention and positions never cross a sequence.
struct Batch {
    BatchArray tokens;                  // [tokens]
    BatchArray labels;                  // [tokens]: kIgnoredLabel where nothing is learned
    BatchArray positions;               // [tokens]: within the sequence
    std::vector<std::int32_t> offsets;  // [sequences + 1]
    std::int64_t valid_tokens = 0;      // labels other than kIgnoredLabel
};

// Fills a batch sequence by sequence. A buffer used before keeps its memory, and its positions
// where the same sequences lie in the same places.
class BatchWriter {
  public:
    // At most `most_tokens` will be added; ConfigError above 2^31 - 1, since offsets are int32.
    BatchWriter(Batch& batch, std::int64_t most_tokens);

    // Tokens [begin, begin + length) as a sequence; the label of each is its successor. The last
    // one's successor counts only with `has_successor`: else its label is ignored.
    void add_sequence(const TokenStream& stream, std::int64_t begin, std::int64_t length,
                      bool has_successor);
    // A sequence of padding, of which nothing is learned.
    void add_padding(std::int64_t length, std::int32_t token);
    // Cuts the arrays to what was added.
    void finish();

    [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }

  private:
    void lay_out(std::int64_t length);

    Batch& batch_;
    std::int64_t tokens_ = 0;
    std::int64_t sequences_ = 0;
    std::int64_t laid_out_before_;  // sequences whose positions the buffer already has
};

}  // namespace tempra::data
