// Batches assembled ahead of their use by a thread, into buffers that are used again.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "tempra/data/batch.h"
#include "tempra/data/row_source.h"

namespace tempra::data {

// Batch i has the rows [i * rows, (i + 1) * rows) of the source; rank r of w takes the r-th of w
// equal parts of them. So the batches of all ranks together do not depend on their number.
struct BatchShape {
    std::int64_t rows = 1;
    std::int64_t rank = 0;
    std::int64_t world_size = 1;
};

// A pure function of the batch number, made fast where numbers follow one another: the thread
// stays at most `readahead` batches ahead, of small ones as many as have a megabyte together (but
// at most 64), and drops them when another number is asked for. It starts with the first `read`. A
// forked child starts one of its own.
class BatchReader {
  public:
    // ConfigError unless 1 <= rows, 0 <= rank < world_size, world_size divides rows and
    // readahead >= 1.
    BatchReader(std::shared_ptr<const RowSource> source, const BatchShape& shape,
                std::int64_t readahead = 3);
    ~BatchReader();
    BatchReader(const BatchReader&) = delete;
    BatchReader& operator=(const BatchReader&) = delete;

    // Waits for batch `index` >= 0. What went wrong while it was assembled is thrown here, and
    // again when it is asked for again. Its memory is used again once the last reference is gone.
    [[nodiscard]] std::shared_ptr<Batch> read(std::int64_t index);

    // Starts the thread now. After this several threads may call `read`; they take turns.
    void start() { (void)worker(); }

    // How long `read` has waited in all.
    [[nodiscard]] double seconds_waited() const noexcept;

  private:
    struct Worker;
    Worker& worker();
    void abandon_lost_worker();

    std::shared_ptr<const RowSource> source_;
    BatchShape shape_;
    std::int64_t readahead_;
    std::atomic<std::int64_t> nanoseconds_waited_{0};
    std::unique_ptr<Worker> worker_;
};

}  // namespace tempra::data
