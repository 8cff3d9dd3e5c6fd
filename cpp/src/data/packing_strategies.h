// What the packing strategies share, and one function for each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

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

void plan_best_fit(std::span<const std::int64_t> lengths, const PackingOptions& options,
                   PackingPlan& plan);
[[nodiscard]] std::int64_t count_best_fit_rows(std::span<const std::int64_t> lengths,
                                               const PackingOptions& options);
void plan_streaming(std::span<const std::int64_t> lengths, const PackingOptions& options,
                    PackingPlan& plan);

}  // namespace tempra::data
