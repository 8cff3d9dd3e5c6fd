#include "tempra/data/sequence_packer.h"

#include <cstddef>
#include <utility>

#include "data/packing_strategies.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::pair<std::string_view, PackingStrategy> kStrategies[] = {
    {"best_fit", PackingStrategy::best_fit},
    {"streaming", PackingStrategy::streaming},
    {"concat", PackingStrategy::concat},
    {"none", PackingStrategy::none}};
constexpr std::pair<std::string_view, OverlongPolicy> kPolicies[] = {
    {"split", OverlongPolicy::split},
    {"truncate", OverlongPolicy::truncate},
    {"reject", OverlongPolicy::reject}};

void check_lengths(std::span<const std::int64_t> lengths) {
    TEMPRA_CHECK(ConfigError, static_cast<std::int64_t>(lengths.size()) <= kMostDocuments,
                 "packing: {} documents given, at most {} fit into one plan", lengths.size(),
                 kMostDocuments);
    std::int64_t signs = 0;
    for (const std::int64_t length : lengths) signs |= length;
    if (signs >= 0) return;
    size_t i = 0;
    while (lengths[i] >= 0) ++i;
    TEMPRA_CHECK(ShapeError, false, "packing: document {} has length {}, at least 0 needed", i,
                 lengths[i]);
}

void add_piece(PackingPlan& plan, std::int64_t document, std::int64_t begin, std::int64_t length) {
    plan.pieces.push_back(
        {static_cast<std::uint32_t>(document), static_cast<std::int32_t>(length)});
    plan.begins.push_back(begin);
}

void end_row(PackingPlan& plan) {
    plan.row_offsets.push_back(static_cast<std::int64_t>(plan.pieces.size()));
}

void plan_concat(std::span<const std::int64_t> lengths, const PackingOptions& options,
                 PackingPlan& plan) {
    plan.row_offsets.push_back(0);
    if (lengths.empty()) return;
    const DocumentOrder order(static_cast<std::int64_t>(lengths.size()), options);
    std::int64_t room = options.capacity;
    for (std::int64_t position = 0; position < order.count(); ++position) {
        const std::int64_t document = order(position);
        const std::int64_t kept =
            admitted_length(lengths[static_cast<size_t>(document)], options, plan.counts);
        plan.counts.split += kept > room;
        for (std::int64_t begin = 0; begin < kept;) {
            const std::int64_t size = std::min(kept - begin, room);
            add_piece(plan, document, begin, size);
            begin += size;
            room -= size;
            if (room == 0) {
                end_row(plan);
                room = options.capacity;
            }
        }
    }
    if (room < options.capacity) end_row(plan);
}

void plan_one_by_one(std::span<const std::int64_t> lengths, const PackingOptions& options,
                     PackingPlan& plan) {
    PackingPlan pieces;
    for (size_t document = 0; document < lengths.size(); ++document) {
        const std::int64_t kept = admitted_length(lengths[document], options, plan.counts);
        plan.counts.split += kept > options.capacity;
        for (std::int64_t begin = 0; begin < kept; begin += options.capacity) {
            add_piece(pieces, static_cast<std::int64_t>(document), begin,
                      std::min(kept - begin, options.capacity));
        }
    }
    plan.row_offsets.push_back(0);
    if (pieces.pieces.empty()) return;
    const DocumentOrder given(static_cast<std::int64_t>(pieces.pieces.size()), options);
    std::vector<std::int64_t> order(pieces.pieces.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = given(static_cast<std::int64_t>(i));
    if (options.longest_first) {
        std::stable_sort(order.begin(), order.end(), [&](std::int64_t one, std::int64_t other) {
            return pieces.pieces[static_cast<size_t>(one)].length >
                   pieces.pieces[static_cast<size_t>(other)].length;
        });
    }
    for (const std::int64_t chosen : order) {
        const auto i = static_cast<size_t>(chosen);
        add_piece(plan, pieces.pieces[i].document, pieces.begins[i], pieces.pieces[i].length);
        end_row(plan);
    }
}

}  // namespace

PackingStrategy packing_strategy(std::string_view name) {
    for (const auto& [known, strategy] : kStrategies) {
        if (name == known) return strategy;
    }
    throw ConfigError(
        format("packing: strategy '{}' given, best_fit, streaming, concat or none needed", name));
}

OverlongPolicy overlong_policy(std::string_view name) {
    for (const auto& [known, policy] : kPolicies) {
        if (name == known) return policy;
    }
    throw ConfigError(
        format("packing: overlong '{}' given, split, truncate or reject needed", name));
}

void check_packing_options(const PackingOptions& options) {
    TEMPRA_CHECK(ConfigError, options.capacity >= 1 && options.capacity <= kLargestCapacity,
                 "packing: capacity {} given, 1 to {} needed", options.capacity, kLargestCapacity);
    TEMPRA_CHECK(ConfigError, options.window >= 1 && options.window <= kLargestCapacity,
                 "packing: window of {} rows given, 1 to {} needed", options.window,
                 kLargestCapacity);
    TEMPRA_CHECK(ConfigError, !options.longest_first || options.strategy == PackingStrategy::none,
                 "packing: longest first is a choice of the strategy none only; best_fit always "
                 "packs so, streaming and concat never");
    TEMPRA_CHECK(ConfigError,
                 !options.in_order ||
                     (options.strategy != PackingStrategy::best_fit && !options.longest_first),
                 "packing: {} puts documents in an order of its own and cannot keep theirs; "
                 "streaming, concat and none can",
                 options.longest_first ? "longest first" : "best_fit");
}

double PackingPlan::fill() const noexcept {
    if (rows() == 0) return 1.0;
    return static_cast<double>(counts.tokens) /
           (static_cast<double>(rows()) * static_cast<double>(capacity));
}

PackingPlan plan_packing(std::span<const std::int64_t> lengths, const PackingOptions& options) {
    check_packing_options(options);
    check_lengths(lengths);
    PackingPlan plan;
    plan.capacity = options.capacity;
    switch (options.strategy) {
        case PackingStrategy::best_fit: plan_best_fit(lengths, options, plan); break;
        case PackingStrategy::streaming: plan_streaming(lengths, options, plan); break;
        case PackingStrategy::concat: plan_concat(lengths, options, plan); break;
        case PackingStrategy::none: plan_one_by_one(lengths, options, plan); break;
    }
    plan.counts.documents = static_cast<std::int64_t>(lengths.size());
    if (plan.counts.split == 0) plan.begins = {};
    return plan;
}

std::int64_t count_packed_rows(std::span<const std::int64_t> lengths,
                               const PackingOptions& options) {
    check_packing_options(options);
    check_lengths(lengths);
    if (options.strategy == PackingStrategy::best_fit) return count_best_fit_rows(lengths, options);
    if (options.strategy == PackingStrategy::streaming) {
        return plan_packing(lengths, options).rows();
    }
    PackingCounts counts;
    std::int64_t rows = 0;
    for (const std::int64_t length : lengths) {
        const std::int64_t kept = admitted_length(length, options, counts);
        rows += (kept + options.capacity - 1) / options.capacity;
    }
    if (options.strategy == PackingStrategy::none) return rows;
    return (counts.tokens + options.capacity - 1) / options.capacity;
}

}  // namespace tempra::data
