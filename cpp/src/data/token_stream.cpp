#include "tempra/data/token_stream.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "data/token_copy.h"
#include "platform/mapped_file.h"
#include "tempra/data/token_bin.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

struct OpenFiles {
    TokenBinReader tokens;
    std::unique_ptr<platform::MappedFile> bounds;
    std::unique_ptr<platform::MappedFile> mask;
};

// More than this of mapped files is not kept resident.
constexpr std::int64_t kMostResident = std::int64_t{256} << 20;
// A read may bring in a whole huge page of the system's cache, whatever its own size.
constexpr std::int64_t kFaultBytes = std::int64_t{2} << 20;

constexpr std::int64_t kCacheLine = 64;
// Into the first cache where little is asked for, else into the second: either way is slower for
// the other.
constexpr std::int64_t kShortRowBytes = 1024;
constexpr std::int64_t kPrefetchRowBytes = 8192;

void check_bounds(const TokenShard& shard) {
    if (shard.bounds == nullptr) return;
    const auto size = static_cast<std::uint64_t>(shard.size);
    const std::uint64_t first = shard.bounds[0], last = shard.bounds[shard.documents];
    TEMPRA_CHECK(FormatError, first == 0 && last == size,
                 "{}: document boundaries run from {} to {}, 0 to {} needed", shard.name, first,
                 last, size);
    for (std::int64_t i = 0; i < shard.documents; ++i) {
        TEMPRA_CHECK(FormatError, shard.bounds[i] <= shard.bounds[i + 1],
                     "{}: document {} ends before it begins", shard.name, i);
    }
}

}  // namespace

TokenShard open_token_shard(const std::string& path, DType dtype, const std::string& bounds_path,
                            const std::string& mask_path) {
    const auto files = std::make_shared<OpenFiles>(OpenFiles{TokenBinReader(path, dtype), {}, {}});
    TokenShard shard;
    shard.name = path;
    shard.tokens = files->tokens.data();
    shard.dtype = dtype;
    shard.size = files->tokens.size();
    shard.mapped = true;
    if (!bounds_path.empty()) {
        files->bounds = std::make_unique<platform::MappedFile>(bounds_path);
        const std::int64_t bytes = files->bounds->size();
        TEMPRA_CHECK(FormatError, bytes >= 8 && bytes % 8 == 0,
                     "{}: {} bytes, a multiple of 8 and at least 8 needed", bounds_path, bytes);
        shard.bounds = reinterpret_cast<const std::uint64_t*>(files->bounds->data());
        shard.documents = bytes / 8 - 1;
    }
    if (!mask_path.empty()) {
        files->mask = std::make_unique<platform::MappedFile>(mask_path);
        TEMPRA_CHECK(FormatError, files->mask->size() == shard.size,
                     "{}: {} bytes, {} tokens need as many", mask_path, files->mask->size(),
                     shard.size);
        shard.mask = reinterpret_cast<const std::uint8_t*>(files->mask->data());
    }
    shard.owner = files;
    return shard;
}

TokenStream::TokenStream(std::vector<TokenShard> shards, std::int64_t vocabulary)
    : shards_(std::move(shards)), vocabulary_(vocabulary) {
    TEMPRA_CHECK(ConfigError, !shards_.empty(), "token stream: no token files given");
    TEMPRA_CHECK(ConfigError, vocabulary >= 1 && vocabulary <= std::int64_t{1} << 31,
                 "token stream: a vocabulary of {} given, 1 to 2^31 needed", vocabulary);
    token_starts_.push_back(0);
    document_starts_.push_back(0);
    std::int64_t mapped_bytes = 0;
    for (const TokenShard& shard : shards_) {
        TEMPRA_CHECK(DtypeError, shard.dtype == DType::u32 || shard.dtype == DType::u16,
                     "{}: dtype {} given, u32 or u16 needed", shard.name, shard.dtype);
        check_bounds(shard);
        token_starts_.push_back(token_starts_.back() + shard.size);
        document_starts_.push_back(document_starts_.back() + shard.documents);
        has_masks_ = has_masks_ || shard.mask != nullptr;
        if (shard.mapped) mapped_bytes += shard.size * size_of(shard.dtype);
    }
    large_ = mapped_bytes > kMostResident;
}

size_t TokenStream::shard_at(std::int64_t token) const {
    const auto after = std::upper_bound(token_starts_.begin(), token_starts_.end(), token);
    return static_cast<size_t>(after - token_starts_.begin()) - 1;
}

void TokenStream::document_lengths(std::int64_t first, std::span<std::int64_t> lengths) const {
    size_t index = shard_of_document(first);
    std::int64_t local = first - document_starts_[index];
    for (std::int64_t& length : lengths) {
        while (local == shards_[index].documents) {
            ++index;
            local = 0;
        }
        const TokenShard& shard = shards_[index];
        length = shard.bounds == nullptr
                     ? shard.size
                     : static_cast<std::int64_t>(shard.bounds[local + 1] - shard.bounds[local]);
        ++local;
    }
}

size_t TokenStream::shard_of_document(std::int64_t document) const {
    const auto after = std::upper_bound(document_starts_.begin(), document_starts_.end(), document);
    return static_cast<size_t>(after - document_starts_.begin()) - 1;
}

void TokenStream::prefetch_place(std::int64_t document) const {
    const size_t place = shard_of_document(document);
    const TokenShard& shard = shards_[place];
    if (shard.bounds == nullptr) return;
    __builtin_prefetch(shard.bounds + (document - document_starts_[place]));
}

void TokenStream::prefetch(std::int64_t begin, std::int64_t length) const {
    const size_t place = shard_at(begin);
    const TokenShard& shard = shards_[place];
    const std::int64_t width = size_of(shard.dtype);
    const auto* bytes =
        static_cast<const std::byte*>(shard.tokens) + (begin - token_starts_[place]) * width;
    const std::int64_t available = std::min(length, token_starts_[place + 1] - begin) * width;
    const std::int64_t last = std::min(available, kPrefetchRowBytes);
    if (last <= kShortRowBytes) {
        for (std::int64_t i = 0; i < last; i += kCacheLine) __builtin_prefetch(bytes + i);
    } else {
        for (std::int64_t i = 0; i < last; i += kCacheLine) __builtin_prefetch(bytes + i, 0, 2);
    }
}

TokenStream::Document TokenStream::document(std::int64_t index) const {
    const size_t place = shard_of_document(index);
    const TokenShard& shard = shards_[place];
    if (shard.bounds == nullptr) return {token_starts_[place], shard.size};
    const std::int64_t local = index - document_starts_[place];
    const auto begin = static_cast<std::int64_t>(shard.bounds[local]);
    return {token_starts_[place] + begin,
            static_cast<std::int64_t>(shard.bounds[local + 1]) - begin};
}

void TokenStream::read(std::int64_t begin, std::span<std::int32_t> out) const {
    const auto largest = static_cast<std::int32_t>(vocabulary_ - 1);
    for (size_t index = shard_at(begin); !out.empty(); ++index) {
        const TokenShard& shard = shards_[index];
        const std::int64_t local = begin - token_starts_[index];
        const std::int64_t count = std::min(shard.size - local, std::ssize(out));
        const auto part = out.first(static_cast<size_t>(count));
        const auto* source =
            static_cast<const std::byte*>(shard.tokens) + local * size_of(shard.dtype);
        if (copy_tokens(source, shard.dtype, count, largest, part.data()) < 0) {
            raise_outside(shard, local, part);
        }
        if (large_ && shard.mapped) count_resident(count * size_of(shard.dtype));
        begin += count;
        out = out.subspan(static_cast<size_t>(count));
    }
}

void TokenStream::read_pairs(std::int64_t begin, std::span<std::int32_t> tokens,
                             std::int32_t* labels) const {
    if (tokens.empty()) return;
    const size_t index = shard_at(begin);
    const TokenShard& shard = shards_[index];
    const std::int64_t local = begin - token_starts_[index];
    const std::int64_t count = std::ssize(tokens);
    const std::int64_t width = size_of(shard.dtype);
    const auto* source = static_cast<const std::byte*>(shard.tokens) + local * width;
    const auto largest = static_cast<std::int32_t>(vocabulary_ - 1);
    if (local + count < shard.size &&
        copy_tokens_and_labels(source, shard.dtype, count, largest, tokens.data(), labels) >= 0) {
        if (large_ && shard.mapped) count_resident(count * width);
        return;
    }
    // The last successor lies in another file, or an id is to be named.
    read(begin, tokens);
    std::memcpy(labels, tokens.data() + 1, (tokens.size() - 1) * sizeof(std::int32_t));
    read(begin + count, {labels + (count - 1), 1});
}

void TokenStream::check_ids() const {
    constexpr std::int64_t kPiece = std::int64_t{1} << 18;
    std::vector<std::int32_t> piece(static_cast<size_t>(std::min(kPiece, size())));
    for (std::int64_t begin = 0; begin < size(); begin += kPiece) {
        read(begin, std::span(piece).first(static_cast<size_t>(std::min(kPiece, size() - begin))));
    }
}

void TokenStream::count_resident(std::int64_t bytes) const {
    const std::int64_t added = bytes + kFaultBytes;
    const std::int64_t before = resident_bytes_.fetch_add(added, std::memory_order_relaxed);
    if (before >= kMostResident || before + added < kMostResident) return;
    resident_bytes_.store(0, std::memory_order_relaxed);
    for (const TokenShard& shard : shards_) {
        if (shard.mapped) {
            platform::release_mapped_pages(shard.tokens, shard.size * size_of(shard.dtype));
        }
    }
}

std::int64_t TokenStream::mask_labels(std::int64_t begin, std::span<std::int32_t> labels) const {
    auto learned = static_cast<std::int64_t>(labels.size());
    if (!has_masks_) return learned;
    for (size_t index = shard_at(begin); !labels.empty(); ++index) {
        const TokenShard& shard = shards_[index];
        const std::int64_t local = begin - token_starts_[index];
        const auto count = static_cast<size_t>(
            std::min(shard.size - local, static_cast<std::int64_t>(labels.size())));
        if (shard.mask != nullptr) {
            for (size_t i = 0; i < count; ++i) {
                if (shard.mask[static_cast<size_t>(local) + i] != 0) continue;
                labels[i] = kIgnoredLabel;
                --learned;
            }
        }
        begin += static_cast<std::int64_t>(count);
        labels = labels.subspan(count);
    }
    return learned;
}

void TokenStream::raise_outside(const TokenShard& shard, std::int64_t begin,
                                std::span<const std::int32_t> ids) const {
    size_t i = 0;
    while (static_cast<std::uint32_t>(ids[i]) < static_cast<std::uint64_t>(vocabulary_)) ++i;
    throw FormatError(format("{}: token {} at position {} is outside the vocabulary of {} tokens",
                             shard.name, static_cast<std::uint32_t>(ids[i]),
                             begin + static_cast<std::int64_t>(i), vocabulary_));
}

}  // namespace tempra::data
