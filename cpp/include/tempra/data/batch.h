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

// Fills a batch: sequences are laid out one by one, then their tokens are moved, by one thread or
// several. A buffer used before keeps its memory, and its positions where the same sequences lie in
// the same places.
class BatchWriter {
  public:
    // At most `most_tokens` will be added; ConfigError above 2^31 - 1, since offsets are int32.
    BatchWriter(Batch& batch, std::int64_t most_tokens);

    // Tokens [begin, begin + length) as a sequence; the label of each is its successor. The last
    // one's successor counts only with `has_successor`: else its label is ignored. The stream has
    // to live until the tokens are moved.
    void add_sequence(const TokenStream& stream, std::int64_t begin, std::int64_t length,
                      bool has_successor);
    // A sequence of padding, of which nothing is learned.
    void add_padding(std::int64_t length, std::int32_t token);
    // Sequences that were laid out and not moved yet.
    [[nodiscard]] size_t pending() const noexcept { return moves_.size(); }
    // Moves the pending sequences [first, last) and returns how many labels are learned; threads
    // may do so at once, each with others. FormatError on an id outside the vocabulary.
    std::int64_t move(size_t first, size_t last) const;
    // All pending ones have been moved, with that many labels that are learned.
    void moved(std::int64_t valid_tokens);
    void move_pending() { moved(move(0, pending())); }
    // Moves what is pending and cuts the arrays to what was added.
    void finish();

    [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }

  private:
    struct Move {
        const TokenStream* stream;
        std::int64_t begin;
        std::int64_t start;  // in the batch
        std::int32_t length;
        bool has_successor;
        bool needs_positions;
    };

    // Whether the positions have to be written.
    [[nodiscard]] bool lay_out(std::int64_t length);
    std::int64_t move(const Move& sequence) const;

    Batch& batch_;
    std::vector<Move> moves_;
    std::int64_t tokens_ = 0;
    std::int64_t sequences_ = 0;
    std::int64_t laid_out_before_;  // sequences whose positions the buffer already has
};

}  // namespace tempra::data
