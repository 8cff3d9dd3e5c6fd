#include "tempra/data/batch_reader.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "tempra/error.h"
#include "tempra/threads.h"
#include "token_memory.h"

namespace tempra::data {
namespace {

std::shared_ptr<const RowSource> windows(std::int64_t tokens = 1000) {
    WindowOptions options;
    options.block = 8;
    options.seed = 2;
    return make_window_rows(counted_stream({tokens}), options);
}

std::vector<std::int32_t> expected_tokens(const RowSource& source, std::int64_t first,
                                          std::int64_t rows) {
    const auto own = source.fresh();
    Batch batch;
    BatchWriter writer(batch, rows * own->row_tokens());
    for (std::int64_t row = first; row < first + rows; ++row) own->append(row, writer);
    writer.finish();
    return {batch.tokens.begin(), batch.tokens.end()};
}

// A source with a row that cannot be read.
class FailingRows final : public RowSource {
  public:
    explicit FailingRows(std::shared_ptr<const RowSource> rows, std::int64_t damaged = 50)
        : prototype_(std::move(rows)), rows_(prototype_->fresh()), damaged_(damaged) {}
    [[nodiscard]] std::int64_t row_tokens() const override { return rows_->row_tokens(); }
    void append(std::int64_t row, BatchWriter& batch) override {
        if (row == damaged_) throw FormatError("row " + std::to_string(row) + " is damaged");
        rows_->append(row, batch);
    }
    [[nodiscard]] double epochs(std::int64_t rows) override { return rows_->epochs(rows); }
    [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
        return std::make_unique<FailingRows>(prototype_, damaged_);
    }

  private:
    std::shared_ptr<const RowSource> prototype_;
    std::unique_ptr<RowSource> rows_;
    std::int64_t damaged_;
};

TEST(BatchReaderTest, ReadsEveryBatchInOrderAndOutOfOrder) {
    const auto source = windows();
    for (const std::int64_t readahead : {1, 2, 5}) {
        BatchReader reader(source, {4, 0, 1}, readahead);
        for (const std::int64_t index : {0, 1, 2, 3, 10, 11, 12, 5, 4, 3, 3, 3, 4, 5, 100, 0}) {
            EXPECT_EQ(reader.read(index)->tokens, expected_tokens(*source, 4 * index, 4)) << index;
        }
    }
}

TEST(BatchReaderTest, RanksTogetherReadTheSameBatches) {
    const auto source = windows();
    for (const std::int64_t world : {1, 2, 3, 6}) {
        for (std::int64_t index = 0; index < 30; index += 7) {
            std::vector<std::int32_t> joined;
            for (std::int64_t rank = 0; rank < world; ++rank) {
                BatchReader reader(source, {6, rank, world});
                const auto batch = reader.read(index);
                joined.insert(joined.end(), batch->tokens.begin(), batch->tokens.end());
            }
            EXPECT_EQ(joined, expected_tokens(*source, 6 * index, 6));
        }
    }
}

TEST(BatchReaderTest, HeldBatchesKeepTheirContentAndOutliveTheReader) {
    const auto source = windows();
    std::vector<std::shared_ptr<Batch>> held;
    {
        BatchReader reader(source, {2, 0, 1});
        for (std::int64_t index = 0; index < 40; ++index) held.push_back(reader.read(index));
    }
    for (std::int64_t index = 0; index < 40; ++index) {
        EXPECT_EQ(held[static_cast<size_t>(index)]->tokens, expected_tokens(*source, 2 * index, 2));
    }
}

class ManyThreads {
  public:
    ManyThreads() : before_(num_threads()) { set_num_threads(2); }
    ~ManyThreads() { set_num_threads(before_); }
    ManyThreads(const ManyThreads&) = delete;
    ManyThreads& operator=(const ManyThreads&) = delete;

  private:
    int before_;
};

// A reader that waits for a large batch takes part in moving its tokens.
TEST(BatchReaderTest, LargeBatchesAreThoseOfOneThread) {
    const ManyThreads threads;
    PackedRowOptions packed;
    packed.packing.capacity = 64;
    packed.pad_token = 7;
    std::vector<std::int64_t> lengths;
    for (std::int64_t i = 0; i < 3000; ++i) lengths.push_back(1 + i * 37 % 90);
    const std::shared_ptr<const RowSource> sources[] = {
        windows(100'000), make_packed_rows(counted_stream(lengths), packed)};
    for (const auto& source : sources) {
        const std::int64_t rows = 40'000 / source->row_tokens();
        BatchReader reader(source, {rows, 0, 1});
        const auto own = source->fresh();
        for (std::int64_t index = 0; index < 60; ++index) {
            const auto batch = reader.read(index);
            Batch expected;
            BatchWriter writer(expected, rows * own->row_tokens());
            for (std::int64_t row = index * rows; row < (index + 1) * rows; ++row) {
                own->append(row, writer);
            }
            writer.finish();
            ASSERT_EQ(batch->tokens, expected.tokens) << index;
            ASSERT_EQ(batch->labels, expected.labels) << index;
            ASSERT_EQ(batch->positions, expected.positions) << index;
            ASSERT_EQ(batch->offsets, expected.offsets) << index;
            ASSERT_EQ(batch->valid_tokens, expected.valid_tokens) << index;
        }
    }
}

TEST(BatchReaderTest, TheFirstDamageOfALargeBatchIsNamed) {
    const ManyThreads threads;
    TokenMemory memory;
    memory.tokens.assign(100'001, 3);
    memory.tokens[78'000] = memory.tokens[93'000] = 50;  // both in the second batch
    memory.bounds = {0, 100'001};
    const auto stream =
        std::make_shared<TokenStream>(std::vector<TokenShard>{shard_of(memory)}, 50);
    WindowOptions options;
    options.block = 8;
    options.sequential = true;
    const std::shared_ptr<const RowSource> source = make_window_rows(stream, options);
    for (int again = 0; again < 20; ++again) {
        BatchReader reader(source, {6000, 0, 1});
        (void)reader.read(0);  // whether moving is shared is seen in the batch before
        try {
            (void)reader.read(1);
            FAIL();
        } catch (const FormatError& error) {
            EXPECT_STREQ(error.what(),
                         "memory: token 50 at position 78000 is outside the "
                         "vocabulary of 50 tokens");
        }
    }
}

TEST(BatchReaderTest, ALargeBatchThatCannotBeLaidOutIsAnError) {
    const ManyThreads threads;
    for (int again = 0; again < 20; ++again) {
        BatchReader reader(std::make_shared<FailingRows>(windows(100'000), 30'000), {8192, 0, 1});
        for (std::int64_t index = 0; index < 3; ++index) (void)reader.read(index);
        EXPECT_THROW((void)reader.read(3), FormatError);
        EXPECT_EQ(reader.read(2)->tokens.size(),
                  static_cast<size_t>(8192 * windows()->row_tokens()));
    }
}

size_t buffers_used(std::shared_ptr<const RowSource> source, std::int64_t rows) {
    BatchReader reader(std::move(source), {rows, 0, 1}, 2);
    std::vector<const std::int32_t*> seen;
    for (std::int64_t index = 0; index < 400; ++index) {
        const std::int32_t* memory = reader.read(index)->tokens.data();
        if (std::find(seen.begin(), seen.end(), memory) == seen.end()) seen.push_back(memory);
    }
    return seen.size();
}

TEST(BatchReaderTest, BuffersAreUsedAgain) {
    EXPECT_LE(buffers_used(windows(), 20000), 6U);  // over a megabyte each
    EXPECT_LE(buffers_used(windows(), 2), 2U * 64 + 2);
}

TEST(BatchReaderTest, ManySmallBatchesAreAssembledAheadAndFewLargeOnes) {
    // Counts the rows read by all of its copies.
    class CountingRows final : public RowSource {
      public:
        CountingRows(std::shared_ptr<const RowSource> rows, std::shared_ptr<std::atomic<int>> read)
            : prototype_(std::move(rows)), rows_(prototype_->fresh()), read_(std::move(read)) {}
        [[nodiscard]] std::int64_t row_tokens() const override { return rows_->row_tokens(); }
        void append(std::int64_t row, BatchWriter& batch) override {
            read_->fetch_add(1);
            rows_->append(row, batch);
        }
        [[nodiscard]] double epochs(std::int64_t rows) override { return rows_->epochs(rows); }
        [[nodiscard]] std::unique_ptr<RowSource> fresh() const override {
            return std::make_unique<CountingRows>(prototype_, read_);
        }

      private:
        std::shared_ptr<const RowSource> prototype_;
        std::unique_ptr<RowSource> rows_;
        std::shared_ptr<std::atomic<int>> read_;
    };
    struct Case {
        std::int64_t rows;
        int ahead;
    };
    // 64 of 16 tokens; 16 of 64 KB; 2 of 1 MB and more, as asked for.
    for (const Case expected : {Case{2, 64}, Case{1024, 16}, Case{32768, 2}}) {
        const auto read = std::make_shared<std::atomic<int>>(0);
        BatchReader reader(std::make_shared<CountingRows>(windows(), read), {expected.rows, 0, 1},
                           2);
        (void)reader.read(0);
        const auto batches = [&] { return read->load() / static_cast<int>(expected.rows); };
        for (int i = 0; i < 2000 && batches() < expected.ahead; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        // The one that was read, or room for it.
        EXPECT_GE(batches(), expected.ahead);
        EXPECT_LE(batches(), expected.ahead + 1);
    }
}

TEST(BatchReaderTest, ErrorsArriveWithTheirBatchAndCanBeAskedForAgain) {
    const auto source = std::make_shared<FailingRows>(windows());
    BatchReader reader(source, {4, 0, 1});
    for (std::int64_t index = 0; index < 12; ++index) (void)reader.read(index);
    for (int again = 0; again < 3; ++again) {
        try {
            (void)reader.read(12);
            FAIL();
        } catch (const FormatError& error) {
            EXPECT_STREQ(error.what(), "row 50 is damaged");
        }
    }
    EXPECT_EQ(reader.read(13)->tokens.size(), 32U);
    EXPECT_EQ(reader.read(14)->tokens.size(), 32U);
    EXPECT_THROW((void)reader.read(12), FormatError);
}

TEST(BatchReaderTest, ReadersThatAreNotReadToTheEndStop) {
    for (int i = 0; i < 50; ++i) {
        BatchReader reader(windows(), {2, 0, 1});
        if (i % 3 > 0) (void)reader.read(0);
        if (i % 3 > 1) (void)reader.read(7);
    }
}

TEST(BatchReaderTest, ThreadsTakeTurns) {
    const auto source = windows();
    BatchReader reader(source, {2, 0, 1});
    reader.start();
    std::vector<std::thread> threads;
    for (std::int64_t id = 0; id < 4; ++id) {
        threads.emplace_back([&, id] {
            for (std::int64_t i = 0; i < 50; ++i) {
                const std::int64_t index = 3 * i + id;
                EXPECT_EQ(reader.read(index)->tokens, expected_tokens(*source, 2 * index, 2));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(reader.seconds_waited(), 0.0);
}

TEST(BatchReaderTest, WrongShapesAreRefused) {
    const auto source = windows();
    EXPECT_THROW(BatchReader(source, {0, 0, 1}), ConfigError);
    EXPECT_THROW(BatchReader(source, {4, 1, 1}), ConfigError);
    EXPECT_THROW(BatchReader(source, {4, -1, 2}), ConfigError);
    EXPECT_THROW(BatchReader(source, {4, 0, 3}), ConfigError);
    EXPECT_THROW(BatchReader(source, {4, 0, 0}), ConfigError);
    EXPECT_THROW(BatchReader(source, {4, 0, 1}, 0), ConfigError);
    BatchReader reader(source, {4, 0, 1});
    EXPECT_THROW((void)reader.read(-1), ConfigError);
}

// Not under ThreadSanitizer, whose run-time library does not start threads in forked children.
#if !defined(__SANITIZE_THREAD__)
TEST(BatchReaderTest, AForkedChildReadsOn) {
    const auto source = windows();
    BatchReader reader(source, {2, 0, 1});
    std::shared_ptr<Batch> held = reader.read(0);
    for (std::int64_t index = 1; index < 30; ++index) {
        (void)reader.read(index);
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            alarm(20);  // a child that hangs is to fail, not to wait
            bool right = true;
            for (std::int64_t next = index + 1; next < index + 4; ++next) {
                right = right && reader.read(next)->tokens == expected_tokens(*source, 2 * next, 2);
            }
            held.reset();
            _exit(right ? 0 : 1);
        }
        int status = -1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
}
#endif

}  // namespace
}  // namespace tempra::data
