#include <algorithm>
#include <array>
#include <utility>

#include "tempra/data/row_source.h"
#include "tempra/data/sample_order.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

// Rows in shuffled order miss every cache, and those of a few cache lines are over before the
// processor has seen that memory is read in order. So the rows that begin within this many bytes
// are asked for.
constexpr std::int64_t kBytesAhead = 2048;
constexpr std::int64_t kMostRowsAhead = 15;

class WindowRows final : public RowSource {
  public:
    WindowRows(std::shared_ptr<const TokenStream> stream, const WindowOptions& options)
        : stream_(std::move(stream)),
          options_(options),
          blocks_((stream_->size() - 1) / options.block),
          order_(blocks_, options.seed, 0),
          rows_ahead_(std::clamp(kBytesAhead / (options.block * std::int64_t{sizeof(std::int32_t)}),
                                 std::int64_t{1}, kMostRowsAhead)) {}

    [[nodiscard]] std::int64_t row_tokens() const override { return options_.block; }

    void append(std::int64_t row, BatchWriter& batch) override {
        look_ahead(row);
        batch.add_sequence(*stream_, start_of(row), options_.block, true);
    }

    [[nodiscard]] double epochs(std::int64_t rows) override {
        return static_cast<double>(rows) / static_cast<double>(blocks_);
    }

    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<WindowRows>(stream_, options_);
    }

  private:
    // Finds where the next rows start, and asks for their tokens.
    void look_ahead(std::int64_t row) {
        if (row < known_begin_ || row >= known_end_) known_end_ = row;
        known_begin_ = row;
        for (; known_end_ <= row + rows_ahead_; ++known_end_) {
            const std::int64_t start =
                options_.random ? random_start(known_end_) : block_start(known_end_);
            start_of(known_end_) = start;
            stream_->prefetch(start, options_.block);
        }
    }

    std::int64_t& start_of(std::int64_t row) {
        return starts_[static_cast<size_t>(row) % starts_.size()];
    }

    [[nodiscard]] std::int64_t random_start(std::int64_t row) const {
        const std::uint64_t value = mix(mix(static_cast<std::uint64_t>(row)) ^ mix(options_.seed));
        // The remainder favours small values by less than 2^-20 for any text under 2^44 tokens.
        const auto starts = static_cast<std::uint64_t>(stream_->size() - options_.block);
        return static_cast<std::int64_t>(value % starts);
    }

    std::int64_t block_start(std::int64_t row) {
        const std::int64_t epoch = row / blocks_;
        if (epoch != epoch_) {
            order_ = SampleOrder(blocks_, options_.seed, static_cast<std::uint64_t>(epoch));
            epoch_ = epoch;
        }
        const auto slack = static_cast<std::uint64_t>((stream_->size() - 1) % options_.block);
        const std::uint64_t offset =
            mix(mix(options_.seed) ^ static_cast<std::uint64_t>(epoch)) % (slack + 1);
        const std::int64_t place = row % blocks_;
        return (options_.sequential ? place : order_(place)) * options_.block +
               static_cast<std::int64_t>(offset);
    }

    std::shared_ptr<const TokenStream> stream_;
    WindowOptions options_;
    std::int64_t blocks_;  // in an epoch
    SampleOrder order_;    // of epoch_
    std::int64_t epoch_ = 0;

    std::int64_t rows_ahead_;
    // Where the rows [known_begin_, known_end_) start.
    std::array<std::int64_t, kMostRowsAhead + 1> starts_{};
    std::int64_t known_begin_ = 0;
    std::int64_t known_end_ = 0;
};

}  // namespace

std::unique_ptr<RowSource> make_window_rows(std::shared_ptr<const TokenStream> stream,
                                            const WindowOptions& options) {
    TEMPRA_CHECK(ConfigError, options.block >= 1, "window rows: a block of {} given, 1 needed",
                 options.block);
    TEMPRA_CHECK(ConfigError, !(options.random && options.sequential),
                 "window rows: random and sequential given, one of the two possible");
    TEMPRA_CHECK(ConfigError, stream->size() > options.block,
                 "window rows: the stream has {} tokens, a block of {} and its last label need {}",
                 stream->size(), options.block, options.block + 1);
    return std::make_unique<WindowRows>(std::move(stream), options);
}

}  // namespace tempra::data
