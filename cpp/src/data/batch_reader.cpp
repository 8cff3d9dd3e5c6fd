#include "tempra/data/batch_reader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "platform/background_thread.h"
#include "platform/futex.h"
#include "tempra/error.h"
#include "tempra/threads.h"

namespace tempra::data {

namespace {

// Buffers that no batch uses. Outlives the reader while batches are still held.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
  public:
    explicit BufferPool(size_t most) : most_(most), forks_before_(platform::fork_count()) {}

    std::shared_ptr<Batch> take() {
        std::unique_ptr<Batch> buffer;
        {
            const std::lock_guard lock(mutex_);
            if (!free_.empty()) {
                buffer = std::move(free_.back());
                free_.pop_back();
            }
        }
        if (buffer == nullptr) buffer = std::make_unique<Batch>();
        return {buffer.release(), [pool = shared_from_this()](Batch* used) {
                    pool->give_back(std::unique_ptr<Batch>(used));
                }};
    }

  private:
    void give_back(std::unique_ptr<Batch> used) {
        // A batch that a forked child inherited: the lock may be held by a thread it does not have.
        if (platform::fork_count() != forks_before_) return;
        const std::lock_guard lock(mutex_);
        if (free_.size() < most_) free_.push_back(std::move(used));
    }

    size_t most_;
    int forks_before_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Batch>> free_;
};

// Waking a thread takes longer than assembling a small batch. So of batches that are together
// smaller than this (tokens and labels), more are assembled ahead than was asked for.
constexpr std::int64_t kLeastBytesAhead = std::int64_t{1} << 20;
constexpr std::int64_t kMostSmallBatchesAhead = 64;

std::int64_t batches_ahead(std::int64_t asked, const BatchShape& shape, std::int64_t row_tokens) {
    const std::int64_t bytes =
        2 * std::int64_t{sizeof(std::int32_t)} * row_tokens * shape.rows / shape.world_size;
    const std::int64_t small = kLeastBytesAhead / std::max<std::int64_t>(bytes, 1);
    return std::max(asked, std::min(small, kMostSmallBatchesAhead));
}

// Batches that cost less, in tokens, are moved sooner than another thread would have begun to help.
constexpr std::int64_t kLeastCostShared = std::int64_t{1} << 15;

// How often a thread looks for what another is about to do before it sleeps: some 20 microseconds,
// about what waking it would take.
constexpr int kLooks = 500;

// The moving of one batch's tokens: the assembling thread and a reader that waits take the parts in
// turns, the reader while later parts are still laid out.
class SharedMoves {
  public:
    // By the assembling thread, while nobody else is inside `help` or `run`.
    void begin(const BatchWriter& writer) {
        writer_ = &writer;
        laid_out_.store(false, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        learned_.store(0, std::memory_order_relaxed);
        error_ = nullptr;
    }
    // No part will follow those that are closed.
    void all_laid_out() { laid_out_.store(true, std::memory_order_release); }

    // Takes parts until none is left, or none has come for a while.
    void help() {
        for (int looks = 0; looks < kLooks; ++looks) {
            const bool last = laid_out_.load(std::memory_order_acquire);
            if (take_all()) looks = 0;
            if (last) return;
            platform::cpu_pause();
        }
    }
    // Takes the parts that are closed; whether there was one.
    bool take_all() {
        size_t part = next_.load(std::memory_order_relaxed);
        bool any = false;
        while (part < writer_->closed_parts()) {
            if (!next_.compare_exchange_weak(part, part + 1, std::memory_order_relaxed)) continue;
            move(part);
            any = true;
            part = next_.load(std::memory_order_relaxed);
        }
        return any;
    }
    [[nodiscard]] std::int64_t learned() const {
        if (error_ != nullptr) std::rethrow_exception(error_);
        return learned_.load(std::memory_order_relaxed);
    }

  private:
    void move(size_t part) {
        try {
            learned_.fetch_add(writer_->move(part), std::memory_order_relaxed);
        } catch (...) {
            const std::lock_guard lock(error_mutex_);
            if (error_ == nullptr || part < failed_at_) {
                failed_at_ = part;
                error_ = std::current_exception();
            }
        }
    }

    const BatchWriter* writer_ = nullptr;
    std::atomic<bool> laid_out_{false};
    std::atomic<size_t> next_{0};
    std::atomic<std::int64_t> learned_{0};
    std::mutex error_mutex_;
    size_t failed_at_ = 0;  // the first part's error is the one reported
    std::exception_ptr error_;
};

// Workers of a parent process, which a forked child must not touch. Kept reachable.
std::atomic<void*> lost_workers{nullptr};

}  // namespace

// Everything that the assembling thread touches.
struct BatchReader::Worker {
    Worker(std::unique_ptr<RowSource> row_source, const BatchShape& batch_shape,
           std::int64_t most_ahead)
        : source(std::move(row_source)),
          shape(batch_shape),
          readahead(static_cast<size_t>(batches_ahead(most_ahead, shape, source->row_tokens()))),
          looks(num_threads() > 1 ? kLooks : 0),
          // A step may hold some while the next ones are assembled.
          pool(std::make_shared<BufferPool>(2 * readahead + 2)),
          thread([this] { assemble_ahead(); }) {}

    ~Worker() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        changed.notify_all();
    }

    void assemble_ahead() {
        std::unique_lock lock(mutex);
        while (true) {
            if (failed || ready.size() >= limit) sleep(lock);
            if (stopping) return;
            const std::int64_t index = next++;
            const std::int64_t request = requests;
            assembling = true;
            lock.unlock();
            Ready result = assemble(index);
            lock.lock();
            assembling = false;
            if (request != requests) continue;  // another batch was asked for meanwhile
            failed = result.error != nullptr;
            ready.push_back(std::move(result));
            arrivals.store(ready.size(), std::memory_order_relaxed);
            arrived.notify_one();
        }
    }

    // Once it has done enough it sleeps until half of that is used up.
    void sleep(std::unique_lock<std::mutex>& lock) {
        asleep = true;
        changed.wait(lock, [this] { return stopping || has_work(); });
        asleep = false;
    }
    [[nodiscard]] bool has_work() const { return !failed && 2 * ready.size() <= limit; }

    struct Ready {
        std::int64_t index;
        std::shared_ptr<Batch> batch;
        std::exception_ptr error;
    };

    Ready assemble(std::int64_t index) {
        try {
            const std::int64_t own = shape.rows / shape.world_size;
            const std::int64_t first = index * shape.rows + shape.rank * own;
            std::shared_ptr<Batch> batch = pool->take();
            BatchWriter writer(*batch, own * source->row_tokens());
            const auto lay_out = [&] {
                for (std::int64_t row = first; row < first + own; ++row) {
                    source->append(row, writer);
                }
            };
            // Batches are much alike, so whether sharing this one pays is seen in the one before.
            if (looks > 0 && cost_before >= kLeastCostShared)
                move_shared(writer, lay_out);
            else
                lay_out();
            cost_before = writer.cost();
            writer.finish();
            return {index, std::move(batch), nullptr};
        } catch (...) {
            return {index, nullptr, std::current_exception()};
        }
    }

    template <class LayOut>
    void move_shared(BatchWriter& writer, const LayOut& lay_out) {
        {
            const std::lock_guard lock(mutex);
            moves.begin(writer);
            moving.store(true, std::memory_order_relaxed);
        }
        std::exception_ptr error;
        try {
            lay_out();
            writer.close_part();
        } catch (...) {
            error = std::current_exception();
        }
        moves.all_laid_out();
        if (error == nullptr) (void)moves.take_all();
        {
            std::unique_lock lock(mutex);
            moving.store(false, std::memory_order_relaxed);
            helped.wait(lock, [this] { return !helping; });
        }
        if (error != nullptr) std::rethrow_exception(error);
        writer.moved(moves.learned());
    }

    // A reader that has nothing to do but wait takes part in what it waits for.
    void help() {
        {
            const std::lock_guard lock(mutex);
            if (!moving.load(std::memory_order_relaxed)) return;
            helping = true;
        }
        moves.help();
        {
            const std::lock_guard lock(mutex);
            helping = false;
            moving.store(false, std::memory_order_relaxed);  // nothing is left, or not soon
        }
        helped.notify_one();
    }

    std::shared_ptr<Batch> read(std::int64_t index) {
        const std::lock_guard one_consumer(consumer);
        std::unique_lock lock(mutex);
        std::int64_t coming = assembling ? next - 1 : next;
        if (!ready.empty()) coming = ready.front().index;
        if (index != coming || (failed && ready.empty())) {
            ++requests;
            ready.clear();
            next = index;
            failed = false;
        }
        // A jump is often followed by another: nothing beyond it is worth assembling yet.
        limit = last_read < 0 || index == last_read + 1 ? readahead : 1;
        last_read = index;
        if (ready.empty()) wait_for_batch(lock);
        Ready result = std::move(ready.front());
        ready.pop_front();
        arrivals.store(ready.size(), std::memory_order_relaxed);
        const bool wake = asleep && has_work();
        lock.unlock();
        if (wake) changed.notify_one();
        if (result.error != nullptr) std::rethrow_exception(result.error);
        return std::move(result.batch);
    }

    void wait_for_batch(std::unique_lock<std::mutex>& lock) {
        if (asleep) changed.notify_one();
        arrivals.store(0, std::memory_order_relaxed);
        lock.unlock();
        for (int i = 0; i < looks && arrivals.load(std::memory_order_relaxed) == 0; ++i) {
            if (moving.load(std::memory_order_relaxed)) {
                help();
                i = 0;
            }
            platform::cpu_pause();
        }
        lock.lock();
        arrived.wait(lock, [this] { return !ready.empty(); });
    }

    std::unique_ptr<RowSource> source;  // of the thread alone
    const BatchShape shape;
    const size_t readahead;
    const int looks;
    std::shared_ptr<BufferPool> pool;
    std::atomic<size_t> arrivals{0};  // ready.size(), to be looked at without the lock
    std::atomic<bool> moving{false};  // whether `moves` may have parts to take
    SharedMoves moves;
    std::int64_t cost_before = 0;  // of the thread alone

    std::mutex consumer;
    std::mutex mutex;  // guards what follows
    std::condition_variable changed, arrived, helped;
    std::deque<Ready> ready;  // consecutive numbers
    std::int64_t next = 0;    // the number to assemble next
    std::int64_t requests = 0;
    std::int64_t last_read = -1;
    size_t limit = 0;  // 0: nothing was asked for yet
    bool assembling = false;
    bool helping = false;
    bool asleep = false;
    bool failed = false;
    bool stopping = false;

    Worker* lost_before = nullptr;
    platform::BackgroundThread thread;  // last: it uses all the others
};

BatchReader::BatchReader(std::shared_ptr<const RowSource> source, const BatchShape& shape,
                         std::int64_t readahead)
    : source_(std::move(source)), shape_(shape), readahead_(readahead) {
    TEMPRA_CHECK(ConfigError, shape.rows >= 1 && shape.world_size >= 1,
                 "batches: {} rows and a world of {} given, at least 1 of each needed", shape.rows,
                 shape.world_size);
    TEMPRA_CHECK(ConfigError, shape.rank >= 0 && shape.rank < shape.world_size,
                 "batches: rank {} given in a world of {}, 0 to {} needed", shape.rank,
                 shape.world_size, shape.world_size - 1);
    TEMPRA_CHECK(ConfigError, shape.rows % shape.world_size == 0,
                 "batches: {} rows cannot be divided evenly among {} ranks", shape.rows,
                 shape.world_size);
    TEMPRA_CHECK(ConfigError, readahead >= 1 && readahead <= 4096,
                 "batches: a readahead of {} given, 1 to 4096 needed", readahead);
}

BatchReader::~BatchReader() { abandon_lost_worker(); }

// In a forked child: the thread is not there, and it may have held any lock of the worker.
void BatchReader::abandon_lost_worker() {
    if (worker_ == nullptr || worker_->thread.exists()) return;
    Worker* lost = worker_.release();
    void* head = lost_workers.load(std::memory_order_relaxed);
    do lost->lost_before = static_cast<Worker*>(head);
    while (!lost_workers.compare_exchange_weak(head, lost, std::memory_order_relaxed));
}

BatchReader::Worker& BatchReader::worker() {
    abandon_lost_worker();
    if (worker_ == nullptr) {
        worker_ = std::make_unique<Worker>(source_->fresh(), shape_, readahead_);
    }
    return *worker_;
}

std::shared_ptr<Batch> BatchReader::read(std::int64_t index) {
    TEMPRA_CHECK(ConfigError, index >= 0, "batches: batch {} asked for, at least 0 needed", index);
    Worker& current = worker();
    const auto began = std::chrono::steady_clock::now();
    std::shared_ptr<Batch> batch = current.read(index);
    const std::chrono::nanoseconds waited = std::chrono::steady_clock::now() - began;
    nanoseconds_waited_.fetch_add(waited.count(), std::memory_order_relaxed);
    return batch;
}

double BatchReader::seconds_waited() const noexcept {
    return 1e-9 * static_cast<double>(nanoseconds_waited_.load(std::memory_order_relaxed));
}

}  // namespace tempra::data
