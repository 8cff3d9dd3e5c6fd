// A list of record ids in their order, held as runs of consecutive ones: a file whose ids count up
// costs one run, whatever its size.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tempra::data {

struct IdRun {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  // inclusive, so that 2^64 - 1 can be one
};

class IdRuns {
  public:
    void append(std::uint64_t id);
    // Ids first, first + 1, ..., last.
    void append(const IdRun& run);

    [[nodiscard]] const std::vector<IdRun>& runs() const noexcept { return runs_; }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] std::optional<std::uint64_t> largest() const;
    // An id that is there twice.
    [[nodiscard]] std::optional<std::uint64_t> duplicate() const;

  private:
    std::vector<IdRun> runs_;
    std::uint64_t count_ = 0;
};

}  // namespace tempra::data
