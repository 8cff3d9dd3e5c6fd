// Which documents share a row: plans that put documents of many lengths into rows of one capacity.
//
// A plan is a pure function of (lengths, capacity, strategy, seed, epoch); it never depends on the
// number of threads. It names pieces (document, first token, length) row by row; nothing is moved.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace tempra::data {

enum class PackingStrategy : std::uint8_t {
    best_fit,   // longest first, each into the row it fills best; rows in shuffled order
    streaming,  // shuffled documents one by one into a bounded window of open rows, best fit
    concat,     // shuffled documents laid end to end and cut at every row's end
    none,       // a row for each document, shuffled or longest first
};

// What becomes of a document longer than a row. `concat` splits wherever a row ends in any case.
enum class OverlongPolicy : std::uint8_t {
    split,     // into rows of their own, and what is left is packed; nothing is lost
    truncate,  // to the row's capacity
    reject,    // left out whole
};

// ConfigError, listing the names, for any other text.
[[nodiscard]] PackingStrategy packing_strategy(std::string_view name);
[[nodiscard]] OverlongPolicy overlong_policy(std::string_view name);

struct PackingOptions {
    std::int64_t capacity = 0;  // tokens in a row, 1 to kLargestCapacity
    PackingStrategy strategy = PackingStrategy::best_fit;
    OverlongPolicy overlong = OverlongPolicy::split;
    std::uint64_t seed = 0;
    std::uint64_t epoch = 0;
    std::int64_t window = 1024;  // streaming: open rows at most
    bool longest_first = false;  // none: instead of shuffled
    bool in_order = false;       // all but best_fit: documents as they are given, not shuffled
};

inline constexpr std::int64_t kLargestCapacity = std::int64_t{1} << 24;
// Documents of one plan; larger sets are planned in parts.
inline constexpr std::int64_t kMostDocuments = (std::int64_t{1} << 32) - 2;

// What was done with the documents; `tokens + lost_tokens` is the sum of all lengths.
struct PackingCounts {
    std::int64_t documents = 0;
    std::int64_t empty = 0;  // of length 0: in no row
    std::int64_t overlong = 0;
    std::int64_t split = 0;  // in more than one piece, for whatever reason
    std::int64_t truncated = 0;
    std::int64_t rejected = 0;
    std::int64_t tokens = 0;       // in rows
    std::int64_t lost_tokens = 0;  // truncated or rejected
};

// A document, or a part of one.
struct PackedPiece {
    std::uint32_t document;
    std::int32_t length;
};

struct PackingPlan {
    std::int64_t capacity = 0;
    std::vector<PackedPiece> pieces;  // row by row
    // [pieces]: first token within the document; empty where no document was split, all begin at 0
    std::vector<std::int64_t> begins;
    std::vector<std::int64_t> row_offsets;  // [rows + 1]: the pieces of each row
    PackingCounts counts;

    [[nodiscard]] std::int64_t rows() const noexcept {
        return static_cast<std::int64_t>(row_offsets.size()) - 1;
    }
    [[nodiscard]] std::int64_t begin(size_t piece) const noexcept {
        return begins.empty() ? 0 : begins[piece];
    }
    // Tokens over room; 1 for no rows.
    [[nodiscard]] double fill() const noexcept;
};

// ConfigError on options out of range or too many documents, ShapeError on a negative length.
[[nodiscard]] PackingPlan plan_packing(std::span<const std::int64_t> lengths,
                                       const PackingOptions& options);

// How many rows that plan has, without making it where the order does not matter: for all
// strategies but `streaming` it is the same for every seed and epoch.
[[nodiscard]] std::int64_t count_packed_rows(std::span<const std::int64_t> lengths,
                                             const PackingOptions& options);

// Rows for documents that arrive one by one: best fit into at most `window` open rows. When a
// document fits none and no more may be opened, the fullest one is closed.
class StreamingPacker {
  public:
    struct Piece {
        std::int64_t document;
        std::int64_t begin;
        std::int32_t length;
    };
    using Row = std::vector<Piece>;

    // Only capacity, overlong and window of the options count.
    explicit StreamingPacker(const PackingOptions& options);
    ~StreamingPacker();
    StreamingPacker(StreamingPacker&&) noexcept;
    StreamingPacker& operator=(StreamingPacker&&) noexcept;

    // Adds a document and appends to `closed` the rows that this finished.
    void push(std::int64_t document, std::int64_t length, std::vector<Row>& closed);
    // Closes what is open, fullest first.
    void finish(std::vector<Row>& closed);

    [[nodiscard]] const PackingCounts& counts() const noexcept;
    [[nodiscard]] std::int64_t open_rows() const noexcept;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace tempra::data
