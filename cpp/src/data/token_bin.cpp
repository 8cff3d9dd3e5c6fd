#include "tempra/data/token_bin.h"

#include <algorithm>
#include <array>

#include "data/token_bin_format.h"
#include "platform/mapped_file.h"
#include "tempra/error.h"

namespace tempra::data {

struct TokenBinReader::State {
    State(const std::string& path, DType token_dtype)
        : file(path), dtype(token_dtype), size(parse_token_bin(file.size(), dtype, path)) {}

    platform::MappedFile file;
    DType dtype;
    std::int64_t size;
};

TokenBinReader::TokenBinReader(const std::string& path, DType dtype) {
    check_token_dtype(dtype);
    state_ = std::make_unique<State>(path, dtype);
}
TokenBinReader::~TokenBinReader() = default;
TokenBinReader::TokenBinReader(TokenBinReader&&) noexcept = default;
TokenBinReader& TokenBinReader::operator=(TokenBinReader&&) noexcept = default;

const std::string& TokenBinReader::path() const noexcept { return state_->file.path(); }
DType TokenBinReader::dtype() const noexcept { return state_->dtype; }
std::int64_t TokenBinReader::size() const noexcept { return state_->size; }
const void* TokenBinReader::data() const noexcept { return state_->file.data(); }

void TokenBinReader::read(std::int64_t begin, std::span<std::uint32_t> out) const {
    const auto count = static_cast<std::int64_t>(out.size());
    TEMPRA_CHECK(ShapeError, begin >= 0 && begin <= size() && count <= size() - begin,
                 "{}: {} tokens from {} asked for, the file has {}", path(), count, begin, size());
    copy_tokens(data(), dtype(), begin, out);
}

std::int64_t TokenBinReader::required_vocabulary() const {
    constexpr std::int64_t kPiece = std::int64_t{1} << 14;
    std::array<std::uint32_t, kPiece> piece;
    std::uint32_t largest = 0;
    for (std::int64_t begin = 0; begin < size(); begin += kPiece) {
        const std::span<std::uint32_t> tokens(
            piece.data(), static_cast<size_t>(std::min(kPiece, size() - begin)));
        read(begin, tokens);
        for (const std::uint32_t token : tokens) largest = std::max(largest, token);
    }
    return size() == 0 ? 0 : std::int64_t{largest} + 1;
}

TokenBinWriter::TokenBinWriter(const std::string& path, DType dtype)
    : path_(path), dtype_((check_token_dtype(dtype), dtype)), file_(path) {}
TokenBinWriter::~TokenBinWriter() = default;
TokenBinWriter::TokenBinWriter(TokenBinWriter&&) noexcept = default;
TokenBinWriter& TokenBinWriter::operator=(TokenBinWriter&&) noexcept = default;

std::int64_t TokenBinWriter::size() const noexcept { return size_; }

void TokenBinWriter::append(std::span<const std::uint32_t> tokens) {
    if (dtype_ == DType::u32) {
        file_.write(tokens.data(), static_cast<std::int64_t>(tokens.size_bytes()));
        size_ += static_cast<std::int64_t>(tokens.size());
        return;
    }
    std::array<std::uint16_t, 4096> narrow;
    while (!tokens.empty()) {
        const auto piece = tokens.first(std::min(tokens.size(), narrow.size()));
        for (size_t i = 0; i < piece.size(); ++i) {
            TEMPRA_CHECK(FormatError, piece[i] <= 0xFFFF,
                         "{}: token {} at position {} does not fit u16; use u32", path_, piece[i],
                         size_ + static_cast<std::int64_t>(i));
            narrow[i] = static_cast<std::uint16_t>(piece[i]);
        }
        file_.write(narrow.data(), static_cast<std::int64_t>(2 * piece.size()));
        size_ += static_cast<std::int64_t>(piece.size());
        tokens = tokens.subspan(piece.size());
    }
}

io::WrittenFile TokenBinWriter::commit() { return file_.commit(); }

}  // namespace tempra::data
