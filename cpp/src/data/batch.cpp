#include "tempra/data/batch.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "tempra/error.h"

namespace tempra::data {

BatchWriter::BatchWriter(Batch& batch, std::int64_t most_tokens)
    : batch_(batch),
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

void BatchWriter::lay_out(std::int64_t length) {
    const auto sequence = static_cast<size_t>(sequences_);
    const std::int64_t end = tokens_ + length;
    // All sequences before this one lie as before, or laid_out_before_ would be 0.
    if (sequences_ < laid_out_before_ && batch_.offsets[sequence + 1] == end) return;
    laid_out_before_ = 0;
    if (sequence + 1 >= batch_.offsets.size()) batch_.offsets.resize(sequence + 2);
    batch_.offsets[sequence + 1] = static_cast<std::int32_t>(end);
    std::int32_t* first = batch_.positions.data() + tokens_;
    std::iota(first, first + length, 0);
}

void BatchWriter::add_sequence(const TokenStream& stream, std::int64_t begin, std::int64_t length,
                               bool has_successor) {
    if (length == 0) return;
    lay_out(length);
    const auto count = static_cast<size_t>(length);
    std::int32_t* tokens = batch_.tokens.data() + tokens_;
    std::int32_t* labels = batch_.labels.data() + tokens_;
    const size_t labelled = has_successor ? count : count - 1;
    stream.read_pairs(begin, {tokens, labelled}, labels);
    if (!has_successor) {
        stream.read(begin + length - 1, {tokens + (count - 1), 1});
        labels[count - 1] = kIgnoredLabel;
    }
    if (labelled > 0) batch_.valid_tokens += stream.mask_labels(begin + 1, {labels, labelled});
    tokens_ += length;
    ++sequences_;
}

void BatchWriter::add_padding(std::int64_t length, std::int32_t token) {
    if (length == 0) return;
    lay_out(length);
    std::fill_n(batch_.tokens.data() + tokens_, length, token);
    std::fill_n(batch_.labels.data() + tokens_, length, kIgnoredLabel);
    tokens_ += length;
    ++sequences_;
}

void BatchWriter::finish() {
    const auto size = static_cast<size_t>(tokens_);
    batch_.tokens.resize(size);
    batch_.labels.resize(size);
    batch_.positions.resize(size);
    batch_.offsets.resize(static_cast<size_t>(sequences_) + 1);
}

}  // namespace tempra::data
