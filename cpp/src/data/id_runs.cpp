#include "tempra/data/id_runs.h"

#include <algorithm>
#include <cstddef>

namespace tempra::data {

void IdRuns::append(std::uint64_t id) { append(IdRun{id, id}); }

void IdRuns::append(const IdRun& run) {
    count_ += run.last - run.first + 1;
    // last + 1 may wrap to 0, which must not join a run that begins there.
    if (!runs_.empty() && runs_.back().last + 1 == run.first && run.first != 0) {
        runs_.back().last = run.last;
    } else {
        runs_.push_back(run);
    }
}

std::optional<std::uint64_t> IdRuns::largest() const {
    std::optional<std::uint64_t> found;
    for (const IdRun& run : runs_) found = std::max(found.value_or(0), run.last);
    return found;
}

std::optional<std::uint64_t> IdRuns::duplicate() const {
    const auto before = [](const IdRun& a, const IdRun& b) { return a.first < b.first; };
    std::vector<IdRun> sorted;
    const std::vector<IdRun>* ordered = &runs_;
    if (!std::is_sorted(runs_.begin(), runs_.end(), before)) {
        sorted = runs_;
        std::sort(sorted.begin(), sorted.end(), before);
        ordered = &sorted;
    }
    for (size_t i = 1; i < ordered->size(); ++i) {
        if ((*ordered)[i].first <= (*ordered)[i - 1].last) return (*ordered)[i].first;
    }
    return std::nullopt;
}

}  // namespace tempra::data
