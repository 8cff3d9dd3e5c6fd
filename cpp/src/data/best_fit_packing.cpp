// Best-fit decreasing in time linear in the documents (D. S. Johnson, Near-optimal bin packing
// algorithms, 1973): lengths and free room are integers up to the capacity, so a counting sort
// replaces the comparison sort and a bitmap over amounts of room the search tree.
//
// Documents of one length are interchangeable. They are shuffled among themselves by (seed, epoch),
// so each epoch packs other documents together, at equal fill; then the rows are shuffled.
// Everything runs on the calling thread.
#include <cstddef>
#include <numeric>
#include <utility>

#include "data/packing_strategies.h"
#include "data/rows_by_free_space.h"
#include "tempra/data/sample_order.h"

namespace tempra::data {

namespace {

struct SortedPieces {
    std::vector<std::int64_t> starts;      // [capacity + 1]: where each length begins in `shorter`
    std::vector<std::uint32_t> shorter;    // documents with a piece shorter than a row, by length
    std::vector<std::uint32_t> whole_row;  // documents once for each piece as long as a row
};

// Of each length below the capacity, how many pieces; [capacity] counts the whole rows.
std::vector<std::int64_t> count_lengths(std::span<const std::int64_t> lengths,
                                        const PackingOptions& options, PackingCounts& counts) {
    const auto capacity = static_cast<size_t>(options.capacity);
    std::vector<std::int64_t> histogram(capacity + 1, 0);
    for (const std::int64_t length : lengths) {
        const std::int64_t kept = admitted_length(length, options, counts);
        if (kept < options.capacity) {
            ++histogram[static_cast<size_t>(kept)];
            continue;
        }
        histogram[capacity] += kept / options.capacity;
        ++histogram[static_cast<size_t>(kept % options.capacity)];
        counts.split += kept > options.capacity;
    }
    histogram[0] = 0;
    return histogram;
}

void shuffle(std::span<std::uint32_t> values, std::uint64_t key) {
    // Fisher and Yates. The numbers are 32 bits scaled down: among 2^20 values the bias of a
    // choice is below 2^-12 of its probability.
    for (size_t i = values.size(); i > 1; --i) {
        const std::uint64_t random = mix(key + i) >> 32;
        std::swap(values[i - 1], values[static_cast<size_t>((random * i) >> 32)]);
    }
}

SortedPieces sort_pieces(std::span<const std::int64_t> lengths, const PackingOptions& options,
                         const std::vector<std::int64_t>& histogram) {
    const auto capacity = static_cast<size_t>(options.capacity);
    SortedPieces sorted;
    sorted.starts.resize(capacity + 1);
    std::int64_t total = 0;
    for (size_t length = 0; length < capacity; ++length) {
        sorted.starts[length] = total;
        total += histogram[length];
    }
    sorted.starts[capacity] = total;
    sorted.shorter.resize(static_cast<size_t>(total));
    sorted.whole_row.reserve(static_cast<size_t>(histogram[capacity]));
    std::vector<std::int64_t> next(sorted.starts);
    PackingCounts ignored;
    for (size_t document = 0; document < lengths.size(); ++document) {
        std::int64_t kept = lengths[document];
        if (kept >= options.capacity) [[unlikely]] {
            kept = admitted_length(kept, options, ignored);
            for (; kept >= options.capacity; kept -= options.capacity) {
                sorted.whole_row.push_back(static_cast<std::uint32_t>(document));
            }
        }
        if (kept > 0) {
            sorted.shorter[static_cast<size_t>(next[static_cast<size_t>(kept)]++)] =
                static_cast<std::uint32_t>(document);
        }
    }
    const std::uint64_t key = epoch_key(options.seed, options.epoch);
    for (size_t length = 1; length < capacity; ++length) {
        const auto first = static_cast<size_t>(sorted.starts[length]);
        const auto last = static_cast<size_t>(sorted.starts[length + 1]);
        if (last - first > 1) {
            shuffle(std::span(sorted.shorter).subspan(first, last - first), mix(key ^ length));
        }
    }
    return sorted;
}

// Gives every piece of `sorted.shorter` a row, longest first; `pieces_in_row` grows with the rows.
std::vector<std::uint32_t> assign_rows(const SortedPieces& sorted, std::int64_t capacity,
                                       std::vector<std::uint32_t>& pieces_in_row) {
    RowsByFreeSpace open(capacity);
    std::vector<std::uint32_t> row_of(sorted.shorter.size());
    for (std::int64_t length = capacity - 1; length > 0; --length) {
        auto next = static_cast<size_t>(sorted.starts[static_cast<size_t>(length)]);
        const auto end = static_cast<size_t>(sorted.starts[static_cast<size_t>(length) + 1]);
        while (next < end) {
            std::int64_t free = open.tightest(length);
            std::uint32_t row = 0;
            if (free < 0) {
                row = static_cast<std::uint32_t>(pieces_in_row.size());
                pieces_in_row.push_back(0);
                free = capacity;
            } else {
                row = open.pop(free);
            }
            // A row that was the tightest and still has room is the tightest again.
            const size_t first = next;
            do {
                row_of[next++] = row;
                free -= length;
            } while (next < end && free >= length);
            pieces_in_row[row] += static_cast<std::uint32_t>(next - first);
            if (free > 0) open.push(row, free);
        }
    }
    return row_of;
}

// Where the pieces of each row begin; rows lie in shuffled order.
std::vector<std::int64_t> place_rows(const std::vector<std::uint32_t>& pieces_in_row,
                                     const PackingOptions& options, PackingPlan& plan) {
    std::vector<std::int64_t> cursors(pieces_in_row.size());
    plan.row_offsets.assign(pieces_in_row.size() + 1, 0);
    std::vector<std::uint32_t> order(pieces_in_row.size());
    std::iota(order.begin(), order.end(), 0U);
    shuffle(order, epoch_key(options.seed, options.epoch));
    std::int64_t total = 0;
    for (size_t position = 0; position < order.size(); ++position) {
        const std::uint32_t row = order[position];
        cursors[row] = total;
        total += pieces_in_row[row];
        plan.row_offsets[position + 1] = total;
    }
    return cursors;
}

}  // namespace

void plan_best_fit(std::span<const std::int64_t> lengths, const PackingOptions& options,
                   PackingPlan& plan) {
    const auto histogram = count_lengths(lengths, options, plan.counts);
    const SortedPieces sorted = sort_pieces(lengths, options, histogram);
    std::vector<std::uint32_t> pieces_in_row(sorted.whole_row.size(), 1);
    const auto row_of = assign_rows(sorted, options.capacity, pieces_in_row);
    auto cursors = place_rows(pieces_in_row, options, plan);

    const size_t pieces = sorted.whole_row.size() + sorted.shorter.size();
    plan.pieces.resize(pieces);
    if (plan.counts.split > 0) plan.begins.resize(pieces);
    std::int64_t begin = 0;
    for (size_t i = 0; i < sorted.whole_row.size(); ++i) {
        const bool continues = i > 0 && sorted.whole_row[i] == sorted.whole_row[i - 1];
        begin = continues ? begin + options.capacity : 0;
        const auto place = static_cast<size_t>(cursors[i]);
        plan.pieces[place] = {sorted.whole_row[i], static_cast<std::int32_t>(options.capacity)};
        if (plan.counts.split > 0) plan.begins[place] = begin;
    }
    for (std::int64_t length = 1; length < options.capacity; ++length) {
        const auto last = static_cast<size_t>(sorted.starts[static_cast<size_t>(length) + 1]);
        for (auto i = static_cast<size_t>(sorted.starts[static_cast<size_t>(length)]); i < last;
             ++i) {
            const auto place = static_cast<size_t>(cursors[row_of[i]]++);
            plan.pieces[place] = {sorted.shorter[i], static_cast<std::int32_t>(length)};
        }
    }
    if (plan.counts.split == 0) return;
    for (size_t i = 0; i < pieces; ++i) {
        const PackedPiece piece = plan.pieces[i];
        if (piece.length < options.capacity)
            plan.begins[i] = lengths[piece.document] - piece.length;
    }
}

std::int64_t count_best_fit_rows(std::span<const std::int64_t> lengths,
                                 const PackingOptions& options) {
    PackingCounts ignored;
    const auto histogram = count_lengths(lengths, options, ignored);
    const std::int64_t capacity = options.capacity;
    std::int64_t rows = histogram[static_cast<size_t>(capacity)];
    // Rows with equal room are interchangeable, so their number is enough.
    RowsByFreeSpace open(capacity);
    std::vector<std::int64_t> with_free(static_cast<size_t>(capacity) + 1, 0);
    for (std::int64_t length = capacity - 1; length > 0; --length) {
        std::int64_t left = histogram[static_cast<size_t>(length)];
        while (left > 0) {
            std::int64_t free = open.tightest(length);
            if (free < 0) free = capacity;
            const std::int64_t each = free / length;
            // Whole groups first, then one row that takes fewer.
            std::int64_t available = with_free[static_cast<size_t>(free)];
            if (free == capacity) available = left / each + 1;
            std::int64_t used = std::min(available, left / each);
            std::int64_t placed = each;
            if (used == 0) {
                used = 1;
                placed = left;
            }
            left -= used * placed;
            if (free == capacity) {
                rows += used;
            } else {
                with_free[static_cast<size_t>(free)] -= used;
                if (with_free[static_cast<size_t>(free)] == 0) open.pop(free);
            }
            const std::int64_t rest = free - placed * length;
            if (rest == 0) continue;
            // One entry stands for all rows of that room; its name is the room itself.
            if (with_free[static_cast<size_t>(rest)] == 0) {
                open.push(static_cast<std::uint32_t>(rest), rest);
            }
            with_free[static_cast<size_t>(rest)] += used;
        }
    }
    return rows;
}

}  // namespace tempra::data
