// What the packing strategies share, and one function for each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "tempra/data/sample_order.h"
#include "tempra/data/sequence_packer.h"

namespace tempra::data {

// Raises on options out of range.
void check_packing_options(const PackingOptions& options);

// How much of a document is packed; counts what the policy does with it.
[[nodiscard]] inline std::int64_t admitted_length(std::int64_t length,
                                                  const PackingOptions& options,
                                                  PackingCounts& counts) {
    if (length <= 0 || length > options.capacity) [[unlikely]] {
        if (length <= 0) {
            ++counts.empty;
            return 0;
        }
        ++counts.overlong;
        if (options.overlong == OverlongPolicy::truncate) {
            ++counts.truncated;
            counts.lost_tokens += length - options.capacity;
            counts.tokens += options.capacity;
            return options.capacity;
        }
        if (options.overlong == OverlongPolicy::reject) {
            ++counts.rejected;
            counts.lost_tokens += length;
            return 0;
        }
    }
    counts.tokens += length;
    return length;
}

// Which of `count` >= 1 documents comes at a position.
class DocumentOrder {
  public:
    DocumentOrder(std::int64_t count, const PackingOptions& options)
        : shuffled_(count, options.seed, options.epoch), in_order_(options.in_order) {}
    [[nodiscard]] std::int64_t count() const { return shuffled_.count(); }
    [[nodiscard]] std::int64_t operator()(std::int64_t position) const {
        return in_order_ ? position : shuffled_(position);
    }

  private:
    SampleOrder shuffled_;
    bool in_order_;
};

void plan_best_fit(std::span<const std::int64_t> lengths, const PackingOptions& options,
                   PackingPlan& plan);
[[nodiscard]] std::int64_t count_best_fit_rows(std::span<const std::int64_t> lengths,
                                               const PackingOptions& options);
void plan_streaming(std::span<const std::int64_t> lengths, const PackingOptions& options,
                    PackingPlan& plan);

}  // namespace tempra::data
