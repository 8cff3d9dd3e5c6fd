// Batches of packed documents from memory, beside copying the same bytes.
//
//   batch_bench [tokens=N] [seconds=S]
//
// Documents of lengths clip(lognormal(5.0, 0.9), 1, 2048) in shuffled order, as batches of 12 x 64,
// 12 x 1024 and 64 x 2048 tokens. One line per size: median GB/s of the tokens, labels and
// positions that BatchReader hands out (it may use two threads), and the share of three ways of
// copying as many bytes, in turns with it, each array once from the tokens into one of five sets of
// buffers:
//   same places   the same documents by one memcpy each, as they lie in memory: what any packing
//                 has to do, since its documents lie at random places
//   with prefetch the same, each document asked for 4 KB before it is copied
//   in order      one memcpy of as many tokens that follow one another, which the processor reads
//                 ahead by itself
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tempra/data/batch_reader.h"
#include "tempra/data/row_source.h"

namespace tempra::data {
namespace {

constexpr std::int64_t kVocabulary = 65;
constexpr size_t kArrays = 3;
constexpr size_t kSets = 5;

struct Memory {
    std::vector<std::uint32_t> tokens;
    std::vector<std::uint64_t> bounds{0};
};

std::shared_ptr<const Memory> random_documents(size_t tokens) {
    auto memory = std::make_shared<Memory>();
    std::mt19937_64 random(0);
    memory->tokens.resize(tokens);
    for (std::uint32_t& token : memory->tokens) {
        token = static_cast<std::uint32_t>(random() % kVocabulary);
    }
    std::lognormal_distribution<double> length(5.0, 0.9);
    while (memory->bounds.back() < tokens) {
        const auto drawn = static_cast<std::uint64_t>(std::clamp(length(random), 1.0, 2048.0));
        memory->bounds.push_back(std::min(memory->bounds.back() + drawn, std::uint64_t{tokens}));
    }
    return memory;
}

struct Piece {
    const std::uint32_t* source;
    size_t start;
    size_t count;
};

// Where the documents of a batch lie, found by asking the rows themselves.
class Pieces {
  public:
    Pieces(const Memory& memory, const PackingOptions& packing) : memory_(memory) {
        std::vector<std::int64_t> lengths;
        for (size_t i = 0; i + 1 < memory.bounds.size(); ++i) {
            lengths.push_back(static_cast<std::int64_t>(memory.bounds[i + 1] - memory.bounds[i]));
        }
        plan_ = plan_packing(lengths, packing);
    }
    [[nodiscard]] std::vector<Piece> batch(std::int64_t first_row, std::int64_t rows) const {
        std::vector<Piece> pieces;
        size_t start = 0;
        for (std::int64_t i = 0; i < rows; ++i) {
            const auto row = static_cast<size_t>((first_row + i) % plan_.rows());
            const auto last = static_cast<size_t>(plan_.row_offsets[row + 1]);
            for (auto k = static_cast<size_t>(plan_.row_offsets[row]); k < last; ++k) {
                const PackedPiece piece = plan_.pieces[k];
                const auto begin =
                    memory_.bounds[piece.document] + static_cast<std::uint64_t>(plan_.begin(k));
                const auto count = static_cast<size_t>(piece.length);
                pieces.push_back({memory_.tokens.data() + begin, start, count});
                start += count;
            }
        }
        return pieces;
    }

  private:
    const Memory& memory_;
    PackingPlan plan_;
};

void copy_pieces(const std::vector<Piece>& pieces, std::vector<std::int32_t>* set,
                 size_t bytes_ahead) {
    size_t ahead = 0;
    size_t asked = 0;  // bytes beyond the piece that is copied
    for (size_t i = 0; i < pieces.size(); ++i) {
        if (ahead <= i)
            ahead = i + 1;
        else
            asked -= 4 * pieces[i].count;
        for (; ahead < pieces.size() && asked < bytes_ahead; ++ahead) {
            const char* bytes = reinterpret_cast<const char*>(pieces[ahead].source);
            for (size_t k = 0; k < 4 * pieces[ahead].count; k += 64) __builtin_prefetch(bytes + k);
            asked += 4 * pieces[ahead].count;
        }
        for (size_t array = 0; array < kArrays; ++array) {
            std::memcpy(set[array].data() + pieces[i].start, pieces[i].source, 4 * pieces[i].count);
        }
    }
}

double median_seconds(std::vector<double>& samples) {
    std::nth_element(samples.begin(), samples.begin() + std::ssize(samples) / 2, samples.end());
    return samples[samples.size() / 2];
}

void measure(const std::shared_ptr<const Memory>& memory, std::int64_t rows,
             std::int64_t row_tokens, double seconds) {
    TokenShard shard;
    shard.name = "memory";
    shard.tokens = memory->tokens.data();
    shard.size = std::ssize(memory->tokens);
    shard.bounds = memory->bounds.data();
    shard.documents = std::ssize(memory->bounds) - 1;
    shard.owner = std::const_pointer_cast<Memory>(memory);
    PackedRowOptions options;
    options.packing.capacity = row_tokens;
    const auto stream = std::make_shared<TokenStream>(std::vector<TokenShard>{shard}, kVocabulary);
    BatchReader reader(make_packed_rows(stream, options), {rows, 0, 1});
    const Pieces pieces(*memory, options.packing);

    const auto size = static_cast<size_t>(rows * row_tokens);
    std::vector<std::vector<std::int32_t>> buffers(kSets * kArrays,
                                                   std::vector<std::int32_t>(size));
    const std::int64_t batches =
        std::max<std::int64_t>(1, (std::int64_t{1} << 22) / (rows * row_tokens));
    std::int64_t next = 0;
    std::vector<std::vector<Piece>> places;
    const auto set = [&](std::int64_t i) {
        return buffers.data() + kArrays * (static_cast<size_t>(i) % kSets);
    };
    const auto copy_places = [&](size_t ahead) {
        for (std::int64_t i = 0; i < batches; ++i) {
            copy_pieces(places[static_cast<size_t>(i)], set(i), ahead);
        }
    };
    const std::vector<std::function<void()>> ways = {
        [&] {
            for (std::int64_t i = 0; i < batches; ++i) (void)reader.read(next + i);
        },
        [&] { copy_places(0); }, [&] { copy_places(4096); },
        [&] {
            const size_t last = memory->tokens.size() - size;
            for (std::int64_t i = 0; i < batches; ++i) {
                const auto start = static_cast<size_t>(next + i) * size % last;
                for (size_t array = 0; array < kArrays; ++array) {
                    std::memcpy(set(i)[array].data(), memory->tokens.data() + start, 4 * size);
                }
            }
        }};
    std::vector<std::vector<double>> samples(ways.size());
    double total = 0;
    for (bool warm = false; total < seconds; warm = true) {
        places.clear();
        // Others than the reader's, or its documents would already be in the caches.
        for (std::int64_t i = 0; i < batches; ++i) {
            places.push_back(pieces.batch((next + 7919 + i) * rows, rows));
        }
        for (size_t way = 0; way < ways.size(); ++way) {
            const auto began = std::chrono::steady_clock::now();
            ways[way]();
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
            if (warm) samples[way].push_back(took.count());
            total += took.count();
        }
        next += batches;
    }
    const double ours = median_seconds(samples[0]);
    const double bytes = 4.0 * kArrays * static_cast<double>(batches) * static_cast<double>(size);
    std::printf(
        "%3d x %-5d %6.2f GB/s; of memcpy: same places %4.0f %%, with prefetch %4.0f %%, in order "
        "%4.0f %%\n",
        static_cast<int>(rows), static_cast<int>(row_tokens), 1e-9 * bytes / ours,
        100 * median_seconds(samples[1]) / ours, 100 * median_seconds(samples[2]) / ours,
        100 * median_seconds(samples[3]) / ours);
}

}  // namespace
}  // namespace tempra::data

int main(int argc, char** argv) {
    std::int64_t tokens = std::int64_t{1} << 26;
    double seconds = 4;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument.starts_with("tokens=")) tokens = std::atoll(argument.c_str() + 7);
        if (argument.starts_with("seconds=")) seconds = std::atof(argument.c_str() + 8);
    }
    const auto memory = tempra::data::random_documents(static_cast<size_t>(tokens));
    tempra::data::measure(memory, 12, 64, seconds);
    tempra::data::measure(memory, 12, 1024, seconds);
    tempra::data::measure(memory, 64, 2048, seconds);
    return 0;
}
