// Rows of packed documents. The documents are planned in parts of bounded size, so memory does not
// grow with their number. All that is kept of the other parts is how many rows they have.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "data/planned_row.h"
#include "tempra/data/row_source.h"
#include "tempra/data/sample_order.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

using RowCounts = std::vector<std::int64_t>;  // [parts]

class PackedRows final : public RowSource {
  public:
    PackedRows(std::shared_ptr<const TokenStream> stream, const PackedRowOptions& options,
               std::shared_ptr<const RowCounts> counts)
        : stream_(std::move(stream)),
          options_(options),
          parts_((stream_->documents() + options.part_documents - 1) / options.part_documents),
          counts_(std::move(counts)) {
        if (counts_ != nullptr) rows_per_epoch_ = total(*counts_);
    }

    [[nodiscard]] std::int64_t row_tokens() const override { return options_.packing.capacity; }

    void append(std::int64_t row, BatchWriter& batch) override {
        find(row);
        append_packed_row(plan_, row - first_row_, *stream_, first_document_, options_.pad_token,
                          batch);
    }

    [[nodiscard]] double epochs(std::int64_t rows) override {
        const std::int64_t epoch = epoch_of(rows);
        return static_cast<double>(epoch) +
               static_cast<double>(rows - epoch_start(epoch)) / static_cast<double>(rows_in(epoch));
    }

    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<PackedRows>(stream_, options_, counts_);
    }

    [[nodiscard]] bool is_empty() { return rows_in(0) == 0; }

    // Rows of each part, the same in every epoch; null where that depends on the order.
    [[nodiscard]] static std::shared_ptr<const RowCounts> count(const TokenStream& stream,
                                                                const PackedRowOptions& options) {
        if (options.packing.strategy == PackingStrategy::streaming) return nullptr;
        auto counts = std::make_shared<RowCounts>();
        std::vector<std::int64_t> lengths;
        for (std::int64_t first = 0; first < stream.documents(); first += options.part_documents) {
            lengths.resize(
                static_cast<size_t>(std::min(options.part_documents, stream.documents() - first)));
            stream.document_lengths(first, lengths);
            counts->push_back(count_packed_rows(lengths, options.packing));
        }
        return counts;
    }

  private:
    [[nodiscard]] static std::int64_t total(const RowCounts& counts) {
        std::int64_t sum = 0;
        for (const std::int64_t count : counts) sum += count;
        return sum;
    }

    void read_lengths(std::int64_t part) {
        first_document_ = part * options_.part_documents;
        lengths_.resize(static_cast<size_t>(
            std::min(options_.part_documents, stream_->documents() - first_document_)));
        stream_->document_lengths(first_document_, lengths_);
    }

    [[nodiscard]] PackingOptions packing_of(std::int64_t epoch, std::int64_t part) const {
        PackingOptions packing = options_.packing;
        packing.seed = mix(packing.seed + static_cast<std::uint64_t>(part));
        packing.epoch = static_cast<std::uint64_t>(epoch);
        return packing;
    }

    // Rows of every part in one epoch.
    const RowCounts& counts_in(std::int64_t epoch) {
        if (counts_ != nullptr) return *counts_;
        if (epoch != counted_epoch_) {
            counted_.clear();
            forget_plan();
            for (std::int64_t part = 0; part < parts_; ++part) {
                read_lengths(part);
                counted_.push_back(count_packed_rows(lengths_, packing_of(epoch, part)));
            }
            counted_epoch_ = epoch;
        }
        return counted_;
    }

    [[nodiscard]] std::int64_t rows_in(std::int64_t epoch) {
        return counts_ != nullptr ? rows_per_epoch_ : total(counts_in(epoch));
    }
    [[nodiscard]] std::int64_t epoch_start(std::int64_t epoch) {
        if (counts_ != nullptr) return epoch * rows_per_epoch_;
        while (static_cast<std::int64_t>(epoch_starts_.size()) <= epoch) {
            const auto last = static_cast<std::int64_t>(epoch_starts_.size()) - 1;
            epoch_starts_.push_back(epoch_starts_.back() + rows_in(last));
        }
        return epoch_starts_[static_cast<size_t>(epoch)];
    }
    [[nodiscard]] std::int64_t epoch_of(std::int64_t row) {
        if (counts_ != nullptr) return row / rows_per_epoch_;
        while (epoch_starts_.back() <= row) {
            (void)epoch_start(static_cast<std::int64_t>(epoch_starts_.size()));
        }
        const auto after = std::upper_bound(epoch_starts_.begin(), epoch_starts_.end(), row);
        return after - epoch_starts_.begin() - 1;
    }

    void forget_plan() { first_row_ = last_row_ = -1; }

    // Makes the plan that has the row.
    void find(std::int64_t row) {
        if (row >= first_row_ && row < last_row_) return;
        const std::int64_t epoch = epoch_of(row);
        std::int64_t start = epoch_start(epoch);
        const RowCounts& counts = counts_in(epoch);
        const SampleOrder order(parts_, options_.packing.seed, static_cast<std::uint64_t>(epoch));
        std::int64_t position = 0;
        std::int64_t part = order(0);
        while (row >= start + counts[static_cast<size_t>(part)]) {
            start += counts[static_cast<size_t>(part)];
            part = order(++position);
        }
        forget_plan();
        read_lengths(part);
        plan_ = plan_packing(lengths_, packing_of(epoch, part));
        first_row_ = start;
        last_row_ = start + plan_.rows();
    }

    std::shared_ptr<const TokenStream> stream_;
    PackedRowOptions options_;
    std::int64_t parts_;
    std::shared_ptr<const RowCounts> counts_;
    std::int64_t rows_per_epoch_ = 0;

    // The current plan: rows [first_row_, last_row_) of all.
    PackingPlan plan_;
    std::vector<std::int64_t> lengths_;
    std::int64_t first_document_ = 0;
    std::int64_t first_row_ = -1;
    std::int64_t last_row_ = -1;

    // Where counts_ is null: of one epoch, and the first row of each epoch so far.
    RowCounts counted_;
    std::int64_t counted_epoch_ = -1;
    std::vector<std::int64_t> epoch_starts_{0};
};

}  // namespace

void append_packed_row(const PackingPlan& plan, std::int64_t row, const TokenStream& stream,
                       std::int64_t first_document, std::optional<std::int32_t> pad_token,
                       BatchWriter& batch) {
    append_planned_row(
        plan, row, stream, [&](std::int64_t planned) { return first_document + planned; },
        pad_token, batch);
}

std::unique_ptr<RowSource> make_packed_rows(std::shared_ptr<const TokenStream> stream,
                                            const PackedRowOptions& options) {
    TEMPRA_CHECK(ConfigError,
                 options.part_documents >= 1 && options.part_documents <= kMostDocuments,
                 "packed rows: parts of {} documents given, 1 to {} needed", options.part_documents,
                 kMostDocuments);
    auto counts = PackedRows::count(*stream, options);
    auto rows = std::make_unique<PackedRows>(std::move(stream), options, std::move(counts));
    TEMPRA_CHECK(ConfigError, !rows->is_empty(),
                 "packed rows: no document is left to pack into rows of {} tokens (empty ones and "
                 "rejected ones are left out)",
                 options.packing.capacity);
    return rows;
}

}  // namespace tempra::data
