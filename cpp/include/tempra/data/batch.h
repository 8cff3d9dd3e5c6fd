// What a training step reads: tokens, labels and where each sequence begins.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
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

// Fills a batch: sequences are laid out one by one, then their tokens are moved, in parts that
// several threads may take while later ones are still laid out. A buffer used before keeps its
// memory, and its positions where the same sequences lie in the same places.
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
    // No more is added to the last part.
    void close_part();
    // Parts whose sequences are all laid out; only this may be asked while another thread adds.
    [[nodiscard]] size_t closed_parts() const noexcept {
        return closed_parts_.load(std::memory_order_acquire);
    }
    // Moves the tokens of a closed part and returns how many labels are learned; threads may do so
    // at once, each with another part. FormatError on an id outside the vocabulary.
    std::int64_t move(size_t part) const;
    // All parts have been moved, with that many labels that are learned.
    void moved(std::int64_t valid_tokens);
    // Closes the last part and moves all that is not moved yet.
    void move_pending();
    // Moves what is pending and cuts the arrays to what was added.
    void finish();

    // What moving all that was laid out costs, in tokens.
    [[nodiscard]] std::int64_t cost() const noexcept { return cost_; }
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

    static constexpr size_t kMostParts = 32;

    Batch& batch_;
    std::array<std::vector<Move>, kMostParts> parts_;
    std::atomic<size_t> closed_parts_{0};
    std::int64_t asked_at_once_;  // the tokens that are asked for when they are laid out
    std::int64_t least_part_cost_;
    std::int64_t part_cost_ = 0;  // of the part that is open
    std::int64_t cost_ = 0;
    std::int64_t tokens_ = 0;
    std::int64_t sequences_ = 0;
    std::int64_t laid_out_before_;  // sequences whose positions the buffer already has
};

}  // namespace tempra::data
