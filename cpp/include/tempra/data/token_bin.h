// Token-bin files: token ids back to back, u32 (or u16 where the dtype is known from elsewhere),
// little-endian, without header or padding. A file of no bytes holds no tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tempra/dtype.h"
#include "tempra/io/atomic_file.h"

namespace tempra::data {

// Number of tokens in `size` bytes. DtypeError unless `dtype` is u32 or u16; FormatError, naming
// `source`, unless the size is a multiple of the token's. Any bytes of such a size are valid.
[[nodiscard]] std::int64_t parse_token_bin(std::int64_t size, DType dtype,
                                           const std::string& source);

// Copies tokens [begin, begin + out.size()) of token-bin bytes, widened to u32. No alignment
// needed.
void copy_tokens(const void* data, DType dtype, std::int64_t begin, std::span<std::uint32_t> out);

// A mapped file. As with every mapping, a file shortened by another process while open is fatal on
// the next touch (SIGBUS).
class TokenBinReader {
  public:
    explicit TokenBinReader(const std::string& path, DType dtype = DType::u32);
    ~TokenBinReader();
    TokenBinReader(TokenBinReader&&) noexcept;
    TokenBinReader& operator=(TokenBinReader&&) noexcept;

    [[nodiscard]] const std::string& path() const noexcept;
    [[nodiscard]] DType dtype() const noexcept;
    [[nodiscard]] std::int64_t size() const noexcept;  // tokens
    // The tokens as they lie in the file, elements of dtype(); null when there are none.
    [[nodiscard]] const void* data() const noexcept;
    // Tokens [begin, begin + out.size()); ShapeError when they do not all exist.
    void read(std::int64_t begin, std::span<std::uint32_t> out) const;
    // One past the largest id; reads the whole file. 0 for an empty one.
    [[nodiscard]] std::int64_t required_vocabulary() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// Writes a file in pieces; it appears, whole, in `commit`.
class TokenBinWriter {
  public:
    explicit TokenBinWriter(const std::string& path, DType dtype = DType::u32);
    ~TokenBinWriter();
    TokenBinWriter(TokenBinWriter&&) noexcept;
    TokenBinWriter& operator=(TokenBinWriter&&) noexcept;

    // FormatError, naming value and position, when a token does not fit the dtype.
    void append(std::span<const std::uint32_t> tokens);
    [[nodiscard]] std::int64_t size() const noexcept;  // tokens so far
    io::WrittenFile commit();

  private:
    std::string path_;
    DType dtype_;
    std::int64_t size_ = 0;
    io::AtomicFile file_;
};

}  // namespace tempra::data
