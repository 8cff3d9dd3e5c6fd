#include "tempra/data/wdbx_token_dataset.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>
#include <variant>

#include "platform/files.h"
#include "tempra/data/token_bin_sidecar.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint32_t kVectorLength = 4;
constexpr std::uint64_t kLargestId = std::numeric_limits<std::uint64_t>::max();

struct HeldBlock {
    std::uint64_t id;
    std::vector<std::uint32_t> tokens;
    std::string text;
};

struct ImportedFile {
    std::uint64_t first_id;
    std::int64_t block_tokens;
    std::int64_t block_count;
    TokenBinReader reader;
};

using Addition = std::variant<HeldBlock, ImportedFile>;

// The four 16-bit limbs of an id, so that no two records have the same vector.
std::array<float, kVectorLength> vector_of_id(std::uint64_t id) {
    std::array<float, kVectorLength> vector;
    for (size_t limb = 0; limb < vector.size(); ++limb) {
        vector[limb] = static_cast<float>((id >> (16 * limb)) & 0xFFFF);
    }
    return vector;
}

std::string record_name(const std::string& path, std::uint64_t index, std::uint64_t id) {
    return format("{}: record {} (id {})", path, index, id);
}

// Hands out the block's first `count` tokens as u32 bytes: `borrow` gets them where they lie,
// `copy` those that had to be widened.
template <class Borrow, class Copy>
void for_each_piece(const WdbxTokenDataset::Block& block, std::int64_t count, const Borrow& borrow,
                    const Copy& copy) {
    if (block.dtype == DType::u32) {
        borrow(Bytes(block.tokens, static_cast<size_t>(4 * count)));
        return;
    }
    std::array<std::uint32_t, 4096> wide;
    for (std::int64_t begin = 0; begin < count; begin += std::ssize(wide)) {
        const std::span<std::uint32_t> piece(
            wide.data(), static_cast<size_t>(std::min(std::ssize(wide), count - begin)));
        copy_tokens(block.tokens, block.dtype, begin, piece);
        copy(std::as_bytes(piece));
    }
}

void write_block(WdbxWriter& writer, const WdbxTokenDataset::Block& block) {
    const std::int64_t text_bytes = std::ssize(block.text);
    const std::string name = record_name("block", writer.record_count(), block.id);
    writer.begin_record(block.id, vector_of_id(block.id),
                        token_block_bytes(block.token_count, text_bytes, name));
    std::array<std::byte, kTokenBlockHeaderBytes> header;
    write_token_block_header(header.data(), block.token_count, text_bytes);
    writer.write_metadata(header);
    for_each_piece(
        block, block.token_count, [&](Bytes piece) { writer.write_borrowed_metadata(piece); },
        [&](Bytes piece) { writer.write_metadata(piece); });
    writer.write_metadata(std::as_bytes(std::span(block.text)));
}

void check_limit(std::int64_t max_tokens) {
    TEMPRA_CHECK(ConfigError, max_tokens >= 0, "max_tokens: {} given, at least 0 needed (0: all)",
                 max_tokens);
}

}  // namespace

struct WdbxTokenDataset::State {
    explicit State(std::string destination) : path(std::move(destination)) {}

    void open(const WdbxReadOptions& options) {
        file.emplace(path, options);
        additions.clear();
        block_count = 0;
        token_count = 0;
        last_id = file->layout().ids.largest().value_or(0);
        ids_left = kLargestId - last_id;
        WdbxRecordCursor records = file->records();
        for (WdbxRecord record; records.next(record); ++block_count) {
            if (record.metadata.empty()) continue;
            token_count +=
                parse_token_block(
                    record.metadata,
                    record_name(path, static_cast<std::uint64_t>(block_count), record.id))
                    .token_count;
        }
    }

    // Takes `count` ids; the first of them.
    std::uint64_t take_ids(std::int64_t count) {
        TEMPRA_CHECK(FormatError, static_cast<std::uint64_t>(count) <= ids_left,
                     "{}: PayloadTooLarge: {} blocks given, but the ids after {} are used up", path,
                     count, last_id);
        TEMPRA_CHECK(FormatError,
                     !file || file->layout().ids.count() == 0 || vector_length() == kVectorLength,
                     "{}: InvalidDimension: its vectors have {} floats, appending token blocks "
                     "needs {}",
                     path, vector_length(), kVectorLength);
        const std::uint64_t first = last_id + 1;
        last_id += static_cast<std::uint64_t>(count);
        ids_left -= static_cast<std::uint64_t>(count);
        block_count += count;
        return first;
    }

    [[nodiscard]] std::int64_t vector_length() const {
        WdbxRecordCursor records = file->records();
        WdbxRecord first;
        return records.next(first) ? std::ssize(first.vector) / 4 : 0;
    }

    std::string path;
    std::optional<WdbxFile> file;
    std::vector<Addition> additions;
    std::int64_t block_count = 0, token_count = 0;
    std::uint64_t last_id = 0;  // the largest so far
    std::uint64_t ids_left = kLargestId;
};

WdbxTokenDataset::WdbxTokenDataset(std::unique_ptr<State> state) : state_(std::move(state)) {}
WdbxTokenDataset::WdbxTokenDataset(const std::string& path)
    : state_(std::make_unique<State>(path)) {
    if (platform::exists(path)) state_->open({});
}
WdbxTokenDataset::~WdbxTokenDataset() = default;
WdbxTokenDataset::WdbxTokenDataset(WdbxTokenDataset&&) noexcept = default;
WdbxTokenDataset& WdbxTokenDataset::operator=(WdbxTokenDataset&&) noexcept = default;

WdbxTokenDataset WdbxTokenDataset::create(const std::string& path) {
    return WdbxTokenDataset(std::make_unique<State>(path));
}

const std::string& WdbxTokenDataset::path() const noexcept { return state_->path; }
const std::string& WdbxTokenDataset::name() const noexcept {
    static const std::string usual = WdbxContents().name;
    return state_->file ? state_->file->layout().name : usual;
}
std::int64_t WdbxTokenDataset::block_count() const noexcept { return state_->block_count; }
std::int64_t WdbxTokenDataset::token_count() const noexcept { return state_->token_count; }
bool WdbxTokenDataset::has_unsaved() const noexcept {
    return !state_->file || !state_->additions.empty();
}

std::uint64_t WdbxTokenDataset::append(std::span<const std::uint32_t> tokens,
                                       std::string_view text) {
    (void)token_block_bytes(std::ssize(tokens), std::ssize(text), state_->path);
    const std::uint64_t id = state_->take_ids(1);
    state_->additions.emplace_back(
        HeldBlock{id, {tokens.begin(), tokens.end()}, std::string(text)});
    state_->token_count += std::ssize(tokens);
    return id;
}

std::int64_t WdbxTokenDataset::import_token_bin(const std::string& source,
                                                std::int64_t block_tokens) {
    constexpr std::int64_t kLargest = std::numeric_limits<std::uint32_t>::max();
    TEMPRA_CHECK(FormatError, block_tokens >= 1 && block_tokens <= kLargest,
                 "{}: InvalidFormat: blocks of {} tokens asked for, 1 to {} are possible", source,
                 block_tokens, kLargest);
    TokenBinReader reader = open_token_bin(source);
    const std::int64_t tokens = reader.size();
    const std::int64_t blocks = tokens / block_tokens + (tokens % block_tokens == 0 ? 0 : 1);
    if (blocks == 0) return 0;
    (void)token_block_bytes(std::min(block_tokens, tokens), 0, source);
    const std::uint64_t first = state_->take_ids(blocks);
    state_->additions.emplace_back(ImportedFile{first, block_tokens, blocks, std::move(reader)});
    state_->token_count += tokens;
    return tokens;
}

// --- walking --------------------------------------------------------------------------------

struct WdbxTokenDataset::Cursor::State {
    explicit State(const WdbxTokenDataset::State& walked)
        : dataset(walked),
          records(walked.file ? walked.file->records() : WdbxRecordCursor(Bytes{})) {}

    bool next_record(Block& block) {
        WdbxRecord record;
        if (!records.next(record)) return false;
        block = Block();
        block.id = record.id;
        if (!record.metadata.empty()) {
            const TokenBlock found =
                parse_token_block(record.metadata, record_name(dataset.path, index, record.id));
            block.token_count = found.token_count;
            block.tokens = found.tokens;
            block.text = found.text;
        }
        ++index;
        return true;
    }

    bool next_addition(Block& block) {
        if (addition == dataset.additions.size()) return false;
        const Addition& current = dataset.additions[addition];
        if (const auto* held = std::get_if<HeldBlock>(&current)) {
            block = {held->id, DType::u32, std::ssize(held->tokens),
                     reinterpret_cast<const std::byte*>(held->tokens.data()), held->text};
            ++addition;
            return true;
        }
        const auto& imported = std::get<ImportedFile>(current);
        const std::int64_t begin = imported.block_tokens * imported_block;
        const auto* tokens = static_cast<const std::byte*>(imported.reader.data());
        block = {imported.first_id + static_cast<std::uint64_t>(imported_block),
                 imported.reader.dtype(),
                 std::min(imported.block_tokens, imported.reader.size() - begin),
                 tokens + begin * size_of(imported.reader.dtype()),
                 {}};
        if (++imported_block == imported.block_count) {
            imported_block = 0;
            ++addition;
        }
        return true;
    }

    const WdbxTokenDataset::State& dataset;
    WdbxRecordCursor records;
    std::uint64_t index = 0;
    size_t addition = 0;
    std::int64_t imported_block = 0;
};

WdbxTokenDataset::Cursor::Cursor(const WdbxTokenDataset& dataset)
    : state_(std::make_unique<State>(*dataset.state_)) {}
WdbxTokenDataset::Cursor::~Cursor() = default;
WdbxTokenDataset::Cursor::Cursor(Cursor&&) noexcept = default;
WdbxTokenDataset::Cursor& WdbxTokenDataset::Cursor::operator=(Cursor&&) noexcept = default;

bool WdbxTokenDataset::Cursor::next(Block& block) {
    return state_->next_record(block) || state_->next_addition(block);
}

std::vector<std::uint32_t> WdbxTokenDataset::collect(std::int64_t max_tokens) const {
    check_limit(max_tokens);
    const std::int64_t wanted =
        max_tokens == 0 ? token_count() : std::min(max_tokens, token_count());
    std::vector<std::uint32_t> tokens(static_cast<size_t>(wanted));
    std::int64_t done = 0;
    Cursor cursor(*this);
    for (Block block; done < wanted && cursor.next(block);) {
        const std::int64_t count = std::min(block.token_count, wanted - done);
        copy_tokens(
            block.tokens, block.dtype, 0,
            std::span(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(count)));
        done += count;
    }
    return tokens;
}

std::int64_t WdbxTokenDataset::export_token_bin(const std::string& destination,
                                                std::int64_t max_tokens,
                                                const io::WriteCheck& check) const {
    check_limit(max_tokens);
    const std::string sidecar = destination + std::string(kSidecarSuffix);
    TEMPRA_CHECK(FormatError, !platform::exists(sidecar),
                 "{}: describes the file that would be replaced; remove it first, or write "
                 "elsewhere",
                 sidecar);
    std::int64_t left = max_tokens == 0 ? std::numeric_limits<std::int64_t>::max() : max_tokens;
    io::AtomicFile file(destination, io::AtomicFile::Checksum::skip);
    file.set_check(check);
    Cursor cursor(*this);
    for (Block block; left > 0 && cursor.next(block);) {
        const std::int64_t count = std::min(block.token_count, left);
        for_each_piece(
            block, count,
            [&](Bytes piece) { file.write_borrowed(piece.data(), std::ssize(piece)); },
            [&](Bytes piece) { file.write(piece.data(), std::ssize(piece)); });
        left -= count;
    }
    return file.commit().bytes / 4;
}

void WdbxTokenDataset::save(const io::WriteCheck& check) {
    if (!has_unsaved()) return;
    State& state = *state_;
    {
        WdbxWriter writer(state.path, state.file ? contents_of(*state.file) : WdbxContents());
        writer.set_check(check);
        if (state.file) writer.append_all(*state.file);
        Cursor cursor(*this);
        for (Block block; cursor.state_->next_addition(block);) write_block(writer, block);
        writer.commit();
    }
    state.open({.verify_checksums = false});  // just written by us
}

}  // namespace tempra::data
