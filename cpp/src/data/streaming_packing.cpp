// Best fit online: each document goes into the open row that it fills best. At most `window` rows
// are open; where none has room, the fullest is closed to open a new one.
#include <utility>

#include "data/packing_strategies.h"
#include "data/rows_by_free_space.h"
#include "tempra/error.h"

namespace tempra::data {

struct StreamingPacker::State {
    explicit State(const PackingOptions& given)
        : options((check_packing_options(given), given)),
          open_rows(static_cast<size_t>(given.window)),
          by_free_space(given.capacity) {
        for (std::int64_t slot = given.window; slot-- > 0;) {
            unused.push_back(static_cast<std::uint32_t>(slot));
        }
    }

    [[nodiscard]] std::int64_t open() const {
        return options.window - static_cast<std::int64_t>(unused.size());
    }

    void close(std::int64_t free, std::vector<Row>& closed) {
        const std::uint32_t slot = by_free_space.pop(free);
        closed.push_back(std::exchange(open_rows[slot], {}));
        unused.push_back(slot);
    }

    void place(const Piece& piece, std::vector<Row>& closed) {
        std::int64_t free = by_free_space.tightest(piece.length);
        std::uint32_t slot = 0;
        if (free >= 0) {
            slot = by_free_space.pop(free);
        } else {
            if (unused.empty()) close(by_free_space.tightest(0), closed);
            slot = unused.back();
            unused.pop_back();
            free = options.capacity;
        }
        open_rows[slot].push_back(piece);
        by_free_space.push(slot, free - piece.length);
        if (free == piece.length) close(0, closed);
    }

    PackingOptions options;
    PackingCounts counts;
    std::vector<Row> open_rows;         // [window]
    std::vector<std::uint32_t> unused;  // slots of open_rows
    RowsByFreeSpace by_free_space;
};

StreamingPacker::StreamingPacker(const PackingOptions& options)
    : state_(std::make_unique<State>(options)) {}
StreamingPacker::~StreamingPacker() = default;
StreamingPacker::StreamingPacker(StreamingPacker&&) noexcept = default;
StreamingPacker& StreamingPacker::operator=(StreamingPacker&&) noexcept = default;

const PackingCounts& StreamingPacker::counts() const noexcept { return state_->counts; }
std::int64_t StreamingPacker::open_rows() const noexcept { return state_->open(); }

void StreamingPacker::push(std::int64_t document, std::int64_t length, std::vector<Row>& closed) {
    TEMPRA_CHECK(ShapeError, length >= 0, "packing: document {} has length {}, at least 0 needed",
                 document, length);
    State& state = *state_;
    ++state.counts.documents;
    const std::int64_t kept = admitted_length(length, state.options, state.counts);
    state.counts.split += kept > state.options.capacity;
    for (std::int64_t begin = 0; begin < kept; begin += state.options.capacity) {
        const std::int64_t size = std::min(kept - begin, state.options.capacity);
        state.place({document, begin, static_cast<std::int32_t>(size)}, closed);
    }
}

void StreamingPacker::finish(std::vector<Row>& closed) {
    while (state_->open() > 0) state_->close(state_->by_free_space.tightest(0), closed);
}

void plan_streaming(std::span<const std::int64_t> lengths, const PackingOptions& options,
                    PackingPlan& plan) {
    StreamingPacker packer(options);
    std::vector<StreamingPacker::Row> closed;
    plan.row_offsets.push_back(0);
    const auto write_closed = [&] {
        for (const StreamingPacker::Row& row : closed) {
            for (const StreamingPacker::Piece& piece : row) {
                plan.pieces.push_back({static_cast<std::uint32_t>(piece.document), piece.length});
                plan.begins.push_back(piece.begin);
            }
            plan.row_offsets.push_back(static_cast<std::int64_t>(plan.pieces.size()));
        }
        closed.clear();
    };
    if (!lengths.empty()) {
        const DocumentOrder order(static_cast<std::int64_t>(lengths.size()), options);
        for (std::int64_t position = 0; position < order.count(); ++position) {
            const std::int64_t document = order(position);
            packer.push(document, lengths[static_cast<size_t>(document)], closed);
            write_closed();
        }
    }
    packer.finish(closed);
    write_closed();
    plan.counts = packer.counts();
}

}  // namespace tempra::data
