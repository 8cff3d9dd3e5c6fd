// Token files read as one stream of documents, never loaded whole.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tempra/dtype.h"

namespace tempra::data {

// The label of a token whose successor is not learned.
inline constexpr std::int32_t kIgnoredLabel = -100;

// One file as the stream sees it: memory that `owner` keeps.
struct TokenShard {
    std::string name;  // for errors
    const void* tokens = nullptr;
    DType dtype = DType::u32;  // or u16
    std::int64_t size = 0;     // tokens
    // [documents + 1]: where each document begins, and `size` last; null: the shard is one document
    const std::uint64_t* bounds = nullptr;
    std::int64_t documents = 1;
    // [size]: 1 for each token that is learned, 0 for others; null: all are
    const std::uint8_t* mask = nullptr;
    // Whether `tokens` are a file mapped read-only. Its pages then leave the process from time to
    // time (not the system's cache), so that an epoch does not fill the resident memory.
    bool mapped = false;
    std::shared_ptr<const void> owner;
};

// Maps a token-bin, and where the names are not empty its file of boundaries (little-endian u64)
// and its loss mask (a byte for each token). FormatError when their sizes do not fit together.
[[nodiscard]] TokenShard open_token_shard(const std::string& path, DType dtype,
                                          const std::string& bounds_path = "",
                                          const std::string& mask_path = "");

class TokenStream {
  public:
    // FormatError where a shard's boundaries do not run from 0 to its size; ConfigError without
    // shards or with a vocabulary outside 1 to 2^31.
    TokenStream(std::vector<TokenShard> shards, std::int64_t vocabulary);

    [[nodiscard]] std::int64_t size() const noexcept { return token_starts_.back(); }
    [[nodiscard]] std::int64_t documents() const noexcept { return document_starts_.back(); }

    // Lengths of the documents from `first` on.
    void document_lengths(std::int64_t first, std::span<std::int64_t> lengths) const;
    // Where a document lies within the stream.
    struct Document {
        std::int64_t begin;
        std::int64_t length;
    };
    [[nodiscard]] Document document(std::int64_t index) const;

    // What is read in shuffled order misses every cache: these ask the processor for where a
    // document lies, and for the first 8 KB of tokens [begin, begin + length) as far as they lie in
    // one file, ahead of their use.
    void prefetch_place(std::int64_t document) const;
    void prefetch(std::int64_t begin, std::int64_t length) const;

    // Tokens [begin, begin + out.size()); FormatError, naming file and position, on an id outside
    // the vocabulary. All must exist.
    void read(std::int64_t begin, std::span<std::int32_t> out) const;
    // The same with the successor of each token in `labels` [tokens]. The last one's must exist
    // too.
    void read_pairs(std::int64_t begin, std::span<std::int32_t> tokens, std::int32_t* labels) const;
    // Reads everything and checks every id, as `read` does.
    void check_ids() const;
    // Writes kIgnoredLabel over each of `labels`, the tokens [begin, ...), that is not learned;
    // returns how many are.
    [[nodiscard]] std::int64_t mask_labels(std::int64_t begin,
                                           std::span<std::int32_t> labels) const;

  private:
    [[nodiscard]] size_t shard_of_document(std::int64_t document) const;
    [[nodiscard]] size_t shard_at(std::int64_t token) const;
    void count_resident(std::int64_t bytes) const;
    [[noreturn]] void raise_outside(const TokenShard& shard, std::int64_t begin,
                                    std::span<const std::int32_t> ids) const;

    std::vector<TokenShard> shards_;
    std::vector<std::int64_t> token_starts_;     // [shards + 1]
    std::vector<std::int64_t> document_starts_;  // [shards + 1]
    std::int64_t vocabulary_;
    bool has_masks_ = false;
    bool large_ = false;  // more mapped than may stay resident
    // Of mapped shards, at most how much may be resident since pages were last let go.
    mutable std::atomic<std::int64_t> resident_bytes_{0};
};

}  // namespace tempra::data
