// Token datasets in WDBX files: each record is a token block (WDTK), and the tokens in file order
// are the stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tempra/data/token_bin.h"
#include "tempra/data/token_block.h"
#include "tempra/data/wdbx.h"

namespace tempra::data {

inline constexpr std::int64_t kDefaultBlockTokens = 2048;

// A file and what was appended since it was opened. Blocks given one by one are held in memory
// until `save`; imported token-bins are read when they are needed, so their size does not matter.
class WdbxTokenDataset {
  public:
    // Opens a file, all of it verified, or begins an empty dataset where there is none. FormatError
    // when a record's metadata is not a token block; one without metadata holds no tokens.
    explicit WdbxTokenDataset(const std::string& path);
    // An empty dataset, which replaces in `save` what is at `path`.
    [[nodiscard]] static WdbxTokenDataset create(const std::string& path);
    ~WdbxTokenDataset();
    WdbxTokenDataset(WdbxTokenDataset&&) noexcept;
    WdbxTokenDataset& operator=(WdbxTokenDataset&&) noexcept;

    [[nodiscard]] const std::string& path() const noexcept;
    [[nodiscard]] const std::string& name() const noexcept;
    [[nodiscard]] std::int64_t block_count() const noexcept;  // records, also those without tokens
    [[nodiscard]] std::int64_t token_count() const noexcept;
    [[nodiscard]] bool has_unsaved() const noexcept;

    // Adds one block; its id. FormatError when it does not fit a record, when the ids are used up,
    // or when the file's vectors have another length than a token dataset's, 4.
    std::uint64_t append(std::span<const std::uint32_t> tokens, std::string_view text = {});
    // Adds the tokens of a file in blocks of `block_tokens`, the last one shorter; how many tokens.
    // The type is that of its sidecar, else u32. The file must stay as it is until `save`.
    std::int64_t import_token_bin(const std::string& source,
                                  std::int64_t block_tokens = kDefaultBlockTokens);

    // One block of the stream. `tokens` of an imported block may be u16.
    struct Block {
        std::uint64_t id = 0;
        DType dtype = DType::u32;
        std::int64_t token_count = 0;
        const std::byte* tokens = nullptr;
        std::string_view text;
    };
    // Walks the blocks in file order. The dataset must live on, and stay unchanged.
    class Cursor {
      public:
        explicit Cursor(const WdbxTokenDataset& dataset);
        ~Cursor();
        Cursor(Cursor&&) noexcept;
        Cursor& operator=(Cursor&&) noexcept;
        bool next(Block& block);  // false at the end

      private:
        friend class WdbxTokenDataset;
        struct State;
        std::unique_ptr<State> state_;
    };

    // The stream's first `max_tokens` tokens; all when it is 0.
    [[nodiscard]] std::vector<std::uint32_t> collect(std::int64_t max_tokens = 0) const;
    // Writes them as a token-bin (u32); how many.
    std::int64_t export_token_bin(const std::string& destination, std::int64_t max_tokens = 0,
                                  const io::WriteCheck& check = {}) const;

    // Writes the file, whole or not at all. Without anything unsaved, nothing is written, unless
    // there is no file yet.
    void save(const io::WriteCheck& check = {});

  private:
    struct State;
    explicit WdbxTokenDataset(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// What to do with a destination that exists.
enum class ExistingFile { fail, replace, append };

// Writes the tokens of a token-bin (of its sidecar's type, else u32) as a token dataset, or appends
// them to one; how many. IoError when the destination exists and `existing` is fail.
std::int64_t token_bin_to_wdbx(const std::string& source, const std::string& destination,
                               std::int64_t block_tokens = kDefaultBlockTokens,
                               ExistingFile existing = ExistingFile::fail,
                               const io::WriteCheck& check = {});

// Writes the first `max_tokens` tokens of a token dataset, all when it is 0, as a token-bin (u32);
// how many. An existing destination is replaced; one with a sidecar is refused, because the sidecar
// would then be wrong.
std::int64_t wdbx_to_token_bin(const std::string& source, const std::string& destination,
                               std::int64_t max_tokens = 0, const io::WriteCheck& check = {});

}  // namespace tempra::data
