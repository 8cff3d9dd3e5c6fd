// Training rows numbered through all epochs; each is a function of its number and the seed alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tempra/data/batch.h"
#include "tempra/data/sequence_packer.h"
#include "tempra/data/token_stream.h"

namespace tempra::data {

// One object serves one thread; `fresh` gives another.
class RowSource {
  public:
    virtual ~RowSource() = default;
    // The most tokens that a row can have.
    [[nodiscard]] virtual std::int64_t row_tokens() const = 0;
    virtual void append(std::int64_t row, BatchWriter& batch) = 0;
    // How often the data has been read after that many rows.
    [[nodiscard]] virtual double epochs(std::int64_t rows) = 0;
    // Another source of the same rows. Reads only what never changes, so that a forked child may
    // call it whatever another thread was doing with this one.
    [[nodiscard]] virtual std::unique_ptr<RowSource> fresh() const = 0;
};

// Windows of `block` tokens of a stream; the labels are the next tokens.
struct WindowOptions {
    std::int64_t block = 0;
    std::uint64_t seed = 0;
    // true: each row starts anywhere, a function of (seed, row). false: each epoch cuts the stream
    // into blocks that do not overlap and reads every one once, in the order of
    // SampleOrder(blocks, seed, epoch); where the stream is no multiple of `block`, each epoch
    // starts at another offset, so that the rest at the end is not always the same tokens.
    bool random = false;
    // Instead of either: the blocks of each epoch as they follow one another in the stream.
    bool sequential = false;
};
// ConfigError where the stream has no complete window.
[[nodiscard]] std::unique_ptr<RowSource> make_window_rows(std::shared_ptr<const TokenStream> stream,
                                                          const WindowOptions& options);

struct PackedRowOptions {
    PackingOptions packing;  // its epoch is ignored
    // Rows are filled up to the capacity with this token; without it they end where they end.
    std::optional<std::int32_t> pad_token;
    // Planned at a time; bounds the memory. Parts are runs of documents in the order of the
    // stream; their order is shuffled in each epoch, and so are the rows of each.
    std::int64_t part_documents = std::int64_t{1} << 20;
};
// Documents packed into rows. ConfigError where there is nothing to pack.
[[nodiscard]] std::unique_ptr<RowSource> make_packed_rows(std::shared_ptr<const TokenStream> stream,
                                                          const PackedRowOptions& options);

// Documents packed one after the other, the same way in every epoch: an order of lessons. With
// `streaming` and a window of 1, a row ends where the next document does not fit.
struct OrderedRowOptions {
    PackingOptions packing;  // its seed, epoch and in_order are ignored; best_fit has no order
    std::optional<std::int32_t> pad_token;
    // false: as they lie in the stream. true: the shortest first, those of equal length as they
    // lie; all that are longer than a row come last.
    bool shortest_first = false;
    // Planned at a time. Memory is bounded by this and, for shortest_first, by the capacity; each
    // part costs a pass over the lengths of all documents, which are nowhere kept.
    std::int64_t part_documents = std::int64_t{1} << 20;
};
// ConfigError where there is nothing to pack, or the strategy keeps no order.
[[nodiscard]] std::unique_ptr<RowSource> make_ordered_rows(
    std::shared_ptr<const TokenStream> stream, const OrderedRowOptions& options);

// Appends a row of a plan for documents `first_document`, ... of the stream. A document that goes
// on in another row is still learned whole: the label of its last token here is its first one
// there.
void append_packed_row(const PackingPlan& plan, std::int64_t row, const TokenStream& stream,
                       std::int64_t first_document, std::optional<std::int32_t> pad_token,
                       BatchWriter& batch);

// Rows of several sources, `quotas[i]` of source i in every sum(quotas) rows, in shuffled order.
// Each source is read through its own epochs. ConfigError unless there is a positive quota for
// each source and they sum to at most 2^20.
[[nodiscard]] std::unique_ptr<RowSource> make_mixed_rows(
    std::vector<std::shared_ptr<const RowSource>> sources, std::vector<std::int64_t> quotas,
    std::uint64_t seed);

}  // namespace tempra::data
