// Rows of documents packed in a given order: that of the stream, or by length. The documents are
// planned in parts of bounded size. For the order by length, a histogram says at which length, and
// after how many documents of that length, each part begins; a part's documents are then found by
// a pass over all lengths, so no list of the documents is ever kept.
#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

#include "data/planned_row.h"
#include "tempra/data/row_source.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::int64_t kLengthsAtOnce = std::int64_t{1} << 16;

// A place in the order: behind `skip` documents of this length. Where the order is that of the
// stream, all documents count as of length 0.
struct Cut {
    std::int64_t length;
    std::int64_t skip;
};

struct Layout {
    std::vector<Cut> cuts;                 // [parts + 1]
    std::vector<std::int64_t> row_starts;  // [parts + 1]
};

class OrderedRows final : public RowSource {
  public:
    OrderedRows(std::shared_ptr<const TokenStream> stream, const OrderedRowOptions& options,
                std::shared_ptr<const Layout> layout)
        : stream_(std::move(stream)), options_(options), layout_(std::move(layout)) {
        options_.packing.in_order = true;
        if (layout_ == nullptr) layout_ = lay_out();
    }

    [[nodiscard]] std::int64_t row_tokens() const override { return options_.packing.capacity; }

    void append(std::int64_t row, BatchWriter& batch) override {
        const std::int64_t in_epoch = row % rows_per_epoch();
        const auto after =
            std::upper_bound(layout_->row_starts.begin(), layout_->row_starts.end(), in_epoch);
        const auto part = static_cast<size_t>(after - layout_->row_starts.begin() - 1);
        if (static_cast<std::int64_t>(part) != part_) make_plan(part);
        append_planned_row(
            plan_, in_epoch - layout_->row_starts[part], *stream_,
            [&](std::int64_t planned) { return documents_[static_cast<size_t>(planned)]; },
            options_.pad_token, batch);
    }

    [[nodiscard]] double epochs(std::int64_t rows) override {
        return static_cast<double>(rows) / static_cast<double>(rows_per_epoch());
    }

    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<OrderedRows>(stream_, options_, layout_);
    }

    [[nodiscard]] std::int64_t rows_per_epoch() const { return layout_->row_starts.back(); }

  private:
    // What a document is sorted by; those longer than a row are all alike.
    [[nodiscard]] std::int64_t key(std::int64_t length) const {
        return options_.shortest_first ? std::min(length, options_.packing.capacity + 1) : 0;
    }

    // Calls visit(document, length) for each document of the stream.
    template <class Visit>
    void scan(Visit visit) const {
        std::vector<std::int64_t> lengths;
        for (std::int64_t first = 0; first < stream_->documents(); first += kLengthsAtOnce) {
            lengths.resize(
                static_cast<size_t>(std::min(kLengthsAtOnce, stream_->documents() - first)));
            stream_->document_lengths(first, lengths);
            for (size_t i = 0; i < lengths.size(); ++i) {
                visit(first + static_cast<std::int64_t>(i), lengths[i]);
            }
        }
    }

    [[nodiscard]] std::shared_ptr<const Layout> lay_out() {
        const std::int64_t keys = options_.shortest_first ? options_.packing.capacity + 2 : 1;
        std::vector<std::int64_t> histogram(static_cast<size_t>(keys), 0);
        scan([&](std::int64_t, std::int64_t length) {
            ++histogram[static_cast<size_t>(key(length))];
        });
        auto layout = std::make_shared<Layout>();
        std::int64_t room = 0;  // documents that still go into the last part
        for (std::int64_t length = 0; length < keys; ++length) {
            const std::int64_t count = histogram[static_cast<size_t>(length)];
            for (std::int64_t skip = 0; skip < count;) {
                if (room == 0) {
                    layout->cuts.push_back({length, skip});
                    room = options_.part_documents;
                }
                const std::int64_t taken = std::min(room, count - skip);
                skip += taken;
                room -= taken;
            }
        }
        layout->cuts.push_back({keys, 0});
        layout->row_starts.push_back(0);
        for (size_t part = 0; part + 1 < layout->cuts.size(); ++part) {
            find_documents(layout->cuts[part], layout->cuts[part + 1]);
            layout->row_starts.push_back(layout->row_starts.back() +
                                         count_packed_rows(lengths_, options_.packing));
        }
        documents_ = {};
        lengths_ = {};
        return layout;
    }

    // Sets documents_ and lengths_ to those between two cuts, in order.
    void find_documents(Cut begin, Cut end) {
        std::vector<std::pair<std::int64_t, std::int64_t>> found;  // document, length
        std::int64_t of_begin = 0;
        std::int64_t of_end = 0;
        scan([&](std::int64_t document, std::int64_t length) {
            const std::int64_t sorted_by = key(length);
            if (sorted_by < begin.length || sorted_by > end.length) return;
            // Both are counted, as one length can be that of both cuts.
            const bool too_early = sorted_by == begin.length && of_begin++ < begin.skip;
            const bool too_late = sorted_by == end.length && of_end++ >= end.skip;
            if (too_early || too_late) return;
            found.emplace_back(document, length);
        });
        std::stable_sort(found.begin(), found.end(), [&](const auto& one, const auto& other) {
            return key(one.second) < key(other.second);
        });
        documents_.resize(found.size());
        lengths_.resize(found.size());
        for (size_t i = 0; i < found.size(); ++i) {
            std::tie(documents_[i], lengths_[i]) = found[i];
        }
    }

    void make_plan(size_t part) {
        part_ = -1;
        find_documents(layout_->cuts[part], layout_->cuts[part + 1]);
        plan_ = plan_packing(lengths_, options_.packing);
        part_ = static_cast<std::int64_t>(part);
    }

    std::shared_ptr<const TokenStream> stream_;
    OrderedRowOptions options_;
    std::shared_ptr<const Layout> layout_;

    // Of part_: the plan, and the documents that it numbers from 0.
    PackingPlan plan_;
    std::vector<std::int64_t> documents_;
    std::vector<std::int64_t> lengths_;
    std::int64_t part_ = -1;
};

}  // namespace

std::unique_ptr<RowSource> make_ordered_rows(std::shared_ptr<const TokenStream> stream,
                                             const OrderedRowOptions& options) {
    TEMPRA_CHECK(ConfigError,
                 options.part_documents >= 1 && options.part_documents <= kMostDocuments,
                 "ordered rows: parts of {} documents given, 1 to {} needed",
                 options.part_documents, kMostDocuments);
    PackingOptions packing = options.packing;
    packing.in_order = true;
    (void)plan_packing({}, packing);  // refuses what it would refuse later
    auto rows = std::make_unique<OrderedRows>(std::move(stream), options, nullptr);
    TEMPRA_CHECK(ConfigError, rows->rows_per_epoch() > 0,
                 "ordered rows: no document is left to pack into rows of {} tokens (empty ones and "
                 "rejected ones are left out)",
                 options.packing.capacity);
    return rows;
}

}  // namespace tempra::data
