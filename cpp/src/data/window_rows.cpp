#include <utility>

#include "tempra/data/row_source.h"
#include "tempra/data/sample_order.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

class WindowRows final : public RowSource {
  public:
    WindowRows(std::shared_ptr<const TokenStream> stream, const WindowOptions& options)
        : stream_(std::move(stream)),
          options_(options),
          blocks_((stream_->size() - 1) / options.block),
          order_(blocks_, options.seed, 0) {}

    [[nodiscard]] std::int64_t row_tokens() const override { return options_.block; }

    void append(std::int64_t row, BatchWriter& batch) override {
        const std::int64_t start = options_.random ? random_start(row) : block_start(row);
        batch.add_sequence(*stream_, start, options_.block, true);
    }

    [[nodiscard]] double epochs(std::int64_t rows) override {
        return static_cast<double>(rows) / static_cast<double>(blocks_);
    }

    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<WindowRows>(stream_, options_);
    }

  private:
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
