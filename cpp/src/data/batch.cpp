#include "tempra/data/batch.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "tempra/error.h"

namespace tempra::data {

namespace {

// Sequences read in shuffled order miss every cache, and those of a few cache lines are over before
// the processor has seen that memory is read in order. So the ones that begin within this many
// bytes are asked for.
constexpr std::int64_t kBytesAhead = 2048;
constexpr size_t kMostAhead = 15;
// The first ones are asked for as soon as they are laid out: as many tokens as the second cache
// keeps until they are moved.
constexpr std::int64_t kTokensAskedAtOnce = std::int64_t{1} << 14;
// In batches of fewer, asking twice for the same takes longer than it saves.
constexpr std::int64_t kLeastTokensAskedAtOnce = std::int64_t{1} << 12;

// A sequence costs as much as this many tokens more: no cache has the place where it begins.
constexpr std::int64_t kCostOfSequence = 256;
// A part costs at least this much, in tokens, and at least this share of a batch.
constexpr std::int64_t kLeastCostOfPart = 4096;
constexpr std::int64_t kPartsOfBatch = 8;
constexpr size_t kUsualSequencesOfPart = 48;

}  // namespace

BatchWriter::BatchWriter(Batch& batch, std::int64_t most_tokens)
    : batch_(batch),
      asked_at_once_(most_tokens < kLeastTokensAskedAtOnce ? 0 : kTokensAskedAtOnce),
      least_part_cost_(std::max(kLeastCostOfPart, most_tokens / kPartsOfBatch)),
      laid_out_before_(static_cast<std::int64_t>(std::max<size_t>(batch.offsets.size(), 1)) - 1) {
    TEMPRA_CHECK(ConfigError,
                 most_tokens >= 0 && most_tokens <= std::numeric_limits<std::int32_t>::max(),
                 "batch: {} tokens in one batch, at most 2^31 - 1 possible", most_tokens);
    const auto size = static_cast<size_t>(most_tokens);
    batch.tokens.resize(size);
    batch.labels.resize(size);
    batch.positions.resize(size);
    if (batch.offsets.empty()) batch.offsets.push_back(0);
    batch.valid_tokens = 0;
}

bool BatchWriter::lay_out(std::int64_t length) {
    const auto sequence = static_cast<size_t>(sequences_);
    const std::int64_t end = tokens_ + length;
    tokens_ = end;
    ++sequences_;
    // All sequences before this one lie as before, or laid_out_before_ would be 0.
    if (sequence < static_cast<size_t>(laid_out_before_) && batch_.offsets[sequence + 1] == end) {
        return false;
    }
    laid_out_before_ = 0;
    if (sequence + 1 >= batch_.offsets.size()) batch_.offsets.resize(sequence + 2);
    batch_.offsets[sequence + 1] = static_cast<std::int32_t>(end);
    return true;
}

void BatchWriter::add_sequence(const TokenStream& stream, std::int64_t begin, std::int64_t length,
                               bool has_successor) {
    if (length == 0) return;
    const std::int64_t start = tokens_;
    const bool needs_positions = lay_out(length);
    const size_t open = closed_parts_.load(std::memory_order_relaxed);
    if (part_cost_ == 0) parts_[open].reserve(kUsualSequencesOfPart);
    parts_[open].push_back(
        {&stream, begin, start, static_cast<std::int32_t>(length), has_successor, needs_positions});
    if (tokens_ <= asked_at_once_) stream.prefetch(begin, length);
    part_cost_ += length + kCostOfSequence;
    cost_ += length + kCostOfSequence;
    if (part_cost_ >= least_part_cost_ && open + 1 < kMostParts) close_part();
}

void BatchWriter::close_part() {
    if (part_cost_ == 0) return;
    part_cost_ = 0;
    closed_parts_.fetch_add(1, std::memory_order_release);
}

void BatchWriter::add_padding(std::int64_t length, std::int32_t token) {
    if (length == 0) return;
    const std::int64_t start = tokens_;
    if (lay_out(length)) {
        std::iota(batch_.positions.data() + start, batch_.positions.data() + tokens_, 0);
    }
    std::fill_n(batch_.tokens.data() + start, length, token);
    std::fill_n(batch_.labels.data() + start, length, kIgnoredLabel);
}

std::int64_t BatchWriter::move(size_t part) const {
    const std::vector<Move>& moves = parts_[part];
    std::int64_t learned = 0;
    std::int64_t bytes_ahead = 0;
    size_t ahead = 0;
    for (size_t i = 0; i < moves.size(); ++i) {
        const auto bytes_of = [&](size_t k) {
            return moves[k].length * std::int64_t{sizeof(std::int32_t)};
        };
        if (ahead == i)
            ++ahead;  // nobody asked for this one
        else
            bytes_ahead -= bytes_of(i);
        for (; ahead < moves.size() && ahead - i <= kMostAhead && bytes_ahead < kBytesAhead;
             ++ahead) {
            moves[ahead].stream->prefetch(moves[ahead].begin, moves[ahead].length);
            bytes_ahead += bytes_of(ahead);
        }
        learned += move(moves[i]);
    }
    return learned;
}

std::int64_t BatchWriter::move(const Move& sequence) const {
    const auto count = static_cast<size_t>(sequence.length);
    std::int32_t* tokens = batch_.tokens.data() + sequence.start;
    std::int32_t* labels = batch_.labels.data() + sequence.start;
    if (sequence.needs_positions) {
        std::int32_t* positions = batch_.positions.data() + sequence.start;
        std::iota(positions, positions + count, 0);
    }
    const size_t labelled = sequence.has_successor ? count : count - 1;
    sequence.stream->read_pairs(sequence.begin, {tokens, labelled}, labels);
    if (!sequence.has_successor) {
        sequence.stream->read(sequence.begin + sequence.length - 1, {tokens + (count - 1), 1});
        labels[count - 1] = kIgnoredLabel;
    }
    if (labelled == 0) return 0;
    return sequence.stream->mask_labels(sequence.begin + 1, {labels, labelled});
}

void BatchWriter::moved(std::int64_t valid_tokens) {
    batch_.valid_tokens += valid_tokens;
    for (size_t part = 0; part < closed_parts(); ++part) parts_[part].clear();
    closed_parts_.store(0, std::memory_order_relaxed);
}

void BatchWriter::move_pending() {
    close_part();
    std::int64_t learned = 0;
    for (size_t part = 0; part < closed_parts(); ++part) learned += move(part);
    moved(learned);
}

void BatchWriter::finish() {
    move_pending();
    const auto size = static_cast<size_t>(tokens_);
    batch_.tokens.resize(size);
    batch_.labels.resize(size);
    batch_.positions.resize(size);
    batch_.offsets.resize(static_cast<size_t>(sequences_) + 1);
}

}  // namespace tempra::data
