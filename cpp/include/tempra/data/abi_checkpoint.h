// Training checkpoints of the ABI program, read only: "ABIC" holds weights, "ABLC" weights and
// Adam's moments, each as one flat array of f32 without shapes or checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tempra::data {

struct AbiCheckpoint {
    bool has_moments = false;  // ABLC
    std::uint64_t step = 0;
    std::uint32_t epoch = 0;             // ABLC only
    std::uint64_t tokens_processed = 0;  // ABLC only
    std::uint64_t timestamp = 0;         // seconds since an unknown moment
    // f32, unaligned, within the bytes that were parsed.
    std::span<const std::byte> weights, first_moments, second_moments;
};

// FormatError naming `source` and InvalidFormat, UnsupportedVersion or EndOfData.
[[nodiscard]] AbiCheckpoint parse_abi_checkpoint(std::span<const std::byte> file,
                                                 const std::string& source);

// A mapped file. As with every mapping, a file shortened by another process while open is fatal on
// the next touch (SIGBUS).
class AbiCheckpointFile {
  public:
    explicit AbiCheckpointFile(const std::string& path);
    ~AbiCheckpointFile();
    AbiCheckpointFile(AbiCheckpointFile&&) noexcept;
    AbiCheckpointFile& operator=(AbiCheckpointFile&&) noexcept;

    [[nodiscard]] const AbiCheckpoint& contents() const noexcept;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace tempra::data
