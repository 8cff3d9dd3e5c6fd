#include "tempra/data/token_bin_sidecar.h"

#include "platform/files.h"
#include "tempra/error.h"
#include "tempra/io/crc32.h"

namespace tempra::data {

namespace {

std::string sidecar_path(const std::string& path) { return path + std::string(kSidecarSuffix); }

}  // namespace

std::optional<TokenBinSidecar> read_token_bin_sidecar(const std::string& path) {
    const std::string name = sidecar_path(path);
    if (!platform::exists(name)) return std::nullopt;
    platform::File file = platform::File::open_for_reading(name);
    const std::int64_t size = file.size();
    TEMPRA_CHECK(FormatError, size <= kMaxSidecarBytes, "{}: has {} bytes, at most {} are allowed",
                 name, size, kMaxSidecarBytes);
    std::string text(static_cast<size_t>(size), '\0');
    text.resize(static_cast<size_t>(file.read(text.data(), size)));
    return parse_token_bin_sidecar(text, name);
}

TokenBinReader open_token_bin(const std::string& path) {
    const std::optional<TokenBinSidecar> sidecar = read_token_bin_sidecar(path);
    if (!sidecar) return TokenBinReader(path);
    TokenBinReader reader(path, sidecar->dtype);
    TEMPRA_CHECK(FormatError, reader.size() == sidecar->tokens,
                 "{}: holds {} tokens, its {} says {}: the file is truncated or was changed", path,
                 reader.size(), kSidecarSuffix, sidecar->tokens);
    const std::uint32_t found = io::crc32(reader.data(), reader.size() * size_of(reader.dtype()));
    TEMPRA_CHECK(FormatError, found == sidecar->crc32,
                 "{}: checksum is {}, its {} says {}: the file is damaged", path, found,
                 kSidecarSuffix, sidecar->crc32);
    return reader;
}

}  // namespace tempra::data
