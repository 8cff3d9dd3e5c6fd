#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "tempra/data/row_source.h"
#include "tempra/data/sample_order.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::int64_t kLargestCycle = std::int64_t{1} << 20;

// Rows come in cycles of sum(quotas). Which source each row of a cycle reads is a permutation of
// (seed, cycle), so how many rows a source has given before any row is known without counting.
class MixedRows final : public RowSource {
  public:
    MixedRows(std::vector<std::shared_ptr<const RowSource>> sources,
              std::vector<std::int64_t> quotas, std::uint64_t seed)
        : prototypes_(std::move(sources)),
          quotas_(std::move(quotas)),
          seed_(seed),
          cycle_rows_(std::accumulate(quotas_.begin(), quotas_.end(), std::int64_t{0})) {
        for (const auto& prototype : prototypes_) sources_.push_back(prototype->fresh());
    }

    [[nodiscard]] std::int64_t row_tokens() const override {
        std::int64_t most = 0;
        for (const auto& source : prototypes_) most = std::max(most, source->row_tokens());
        return most;
    }

    void append(std::int64_t row, BatchWriter& batch) override {
        if (row / cycle_rows_ != cycle_) lay_out_cycle(row / cycle_rows_);
        const Entry entry = entries_[static_cast<size_t>(row % cycle_rows_)];
        sources_[entry.source]->append(cycle_ * quotas_[entry.source] + entry.row, batch);
    }

    // The mean over the rows read: each source weighs as much as its quota.
    [[nodiscard]] double epochs(std::int64_t rows) override {
        double sum = 0.0;
        for (size_t i = 0; i < sources_.size(); ++i) {
            const double share = static_cast<double>(quotas_[i]) / static_cast<double>(cycle_rows_);
            const auto read = static_cast<std::int64_t>(share * static_cast<double>(rows));
            sum += share * sources_[i]->epochs(read);
        }
        return sum;
    }

    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<MixedRows>(prototypes_, quotas_, seed_);
    }

  private:
    struct Entry {
        std::uint32_t source;
        std::uint32_t row;  // of the source, within the cycle
    };

    void lay_out_cycle(std::int64_t cycle) {
        const SampleOrder order(cycle_rows_, seed_, static_cast<std::uint64_t>(cycle));
        std::vector<std::int64_t> ends(quotas_.size());
        std::partial_sum(quotas_.begin(), quotas_.end(), ends.begin());
        std::vector<std::uint32_t> used(quotas_.size(), 0);
        entries_.resize(static_cast<size_t>(cycle_rows_));
        for (std::int64_t i = 0; i < cycle_rows_; ++i) {
            const auto end = std::upper_bound(ends.begin(), ends.end(), order(i));
            const auto source = static_cast<size_t>(end - ends.begin());
            entries_[static_cast<size_t>(i)] = {static_cast<std::uint32_t>(source), used[source]++};
        }
        cycle_ = cycle;
    }

    std::vector<std::shared_ptr<const RowSource>> prototypes_;
    std::vector<std::int64_t> quotas_;
    std::uint64_t seed_;
    std::int64_t cycle_rows_;
    std::vector<std::unique_ptr<RowSource>> sources_;
    std::vector<Entry> entries_;  // of cycle_
    std::int64_t cycle_ = -1;
};

}  // namespace

std::unique_ptr<RowSource> make_mixed_rows(std::vector<std::shared_ptr<const RowSource>> sources,
                                           std::vector<std::int64_t> quotas, std::uint64_t seed) {
    TEMPRA_CHECK(ConfigError, !sources.empty() && sources.size() == quotas.size(),
                 "mixed rows: {} sources and {} quotas given, one quota for each needed",
                 sources.size(), quotas.size());
    std::int64_t sum = 0;
    for (const std::int64_t quota : quotas) {
        TEMPRA_CHECK(ConfigError, quota >= 1 && quota <= kLargestCycle,
                     "mixed rows: a quota of {} given, 1 to {} needed", quota, kLargestCycle);
        sum += quota;
    }
    TEMPRA_CHECK(ConfigError, sum <= kLargestCycle,
                 "mixed rows: quotas that sum to {} given, at most {} possible", sum,
                 kLargestCycle);
    return std::make_unique<MixedRows>(std::move(sources), std::move(quotas), seed);
}

}  // namespace tempra::data
