// The JSON file `NAME.meta.json` beside a token-bin: what the tokens' bytes cannot say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tempra/data/token_bin.h"
#include "tempra/dtype.h"

namespace tempra::data {

struct TokenBinSidecar {
    DType dtype = DType::u32;
    std::int64_t tokens = 0;
    std::uint32_t crc32 = 0;  // of the token-bin
    std::int64_t documents = 0;
    std::uint32_t bounds_crc32 = 0;  // of the file of document boundaries
    std::int64_t vocabulary_size = 0;
    std::optional<std::uint32_t> end_of_text;
    std::string tokenizer_kind, tokenizer_fingerprint;
};

inline constexpr std::string_view kSidecarSuffix = ".meta.json";
inline constexpr std::int64_t kMaxSidecarBytes = std::int64_t{1} << 20;

// FormatError, naming `source` and the field. Fields of later versions are ignored.
[[nodiscard]] TokenBinSidecar parse_token_bin_sidecar(std::string_view text,
                                                      const std::string& source);

// The sidecar of the token-bin at `path`; nothing when there is none.
[[nodiscard]] std::optional<TokenBinSidecar> read_token_bin_sidecar(const std::string& path);

// A token-bin of the type its sidecar states, number of tokens and checksum compared with it; u32
// where there is no sidecar.
[[nodiscard]] TokenBinReader open_token_bin(const std::string& path);

}  // namespace tempra::data
