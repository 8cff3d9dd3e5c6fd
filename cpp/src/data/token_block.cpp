#include "tempra/data/token_block.h"

#include <cstring>

#include "data/little_endian.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr char kMagic[4] = {'W', 'D', 'T', 'K'};
constexpr std::uint16_t kVersion = 1;
constexpr std::int64_t kTokenBytes = 4;

template <class... Arguments>
[[noreturn]] void fail(const std::string& source, std::string_view pattern,
                       const Arguments&... arguments) {
    throw FormatError(
        format("{}: InvalidFormat: token block: {}", source, format(pattern, arguments...)));
}

}  // namespace

void TokenBlock::read(std::int64_t begin, std::span<std::uint32_t> out) const {
    const auto count = static_cast<std::int64_t>(out.size());
    TEMPRA_CHECK(ShapeError, begin >= 0 && begin <= token_count && count <= token_count - begin,
                 "token block: {} tokens from {} asked for, it has {}", count, begin, token_count);
    if (count > 0) std::memcpy(out.data(), tokens + kTokenBytes * begin, out.size_bytes());
}

TokenBlock parse_token_block(std::span<const std::byte> bytes, const std::string& source) {
    const auto available = static_cast<std::int64_t>(bytes.size());
    if (available < kTokenBlockHeaderBytes) {
        fail(source, "{} bytes, at least {} needed", available, kTokenBlockHeaderBytes);
    }
    if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
        fail(source, "does not begin with WDTK");
    }
    const auto version = load<std::uint16_t>(bytes, 4);
    if (version != kVersion) fail(source, "version {}, {} is known", version, kVersion);
    const std::int64_t token_count = load<std::uint32_t>(bytes, 8);
    const std::int64_t text_bytes = load<std::uint32_t>(bytes, 12);
    const std::int64_t text_begin = kTokenBlockHeaderBytes + kTokenBytes * token_count;
    if (text_begin > available) {
        fail(source, "{} tokens need {} bytes, it has {}", token_count, text_begin, available);
    }
    if (text_bytes > available - text_begin) {
        fail(source, "{} tokens and a text of {} bytes do not fit its {} bytes", token_count,
             text_bytes, available);
    }
    return {token_count,
            bytes.data() + kTokenBlockHeaderBytes,
            {reinterpret_cast<const char*>(bytes.data()) + text_begin,
             static_cast<size_t>(text_bytes)}};
}

std::int64_t token_block_bytes(std::int64_t token_count, std::int64_t text_bytes,
                               const std::string& source) {
    const bool fits = token_count <= kMaxTokenBlockBytes && text_bytes <= kMaxTokenBlockBytes;
    const std::int64_t bytes =
        fits ? kTokenBlockHeaderBytes + kTokenBytes * token_count + text_bytes : 0;
    TEMPRA_CHECK(FormatError, fits && bytes <= kMaxTokenBlockBytes,
                 "{}: PayloadTooLarge: a block of {} tokens with {} bytes of text given, together "
                 "at most {} bytes fit",
                 source, token_count, text_bytes, kMaxTokenBlockBytes);
    return bytes;
}

void write_token_block_header(std::byte* out, std::int64_t token_count, std::int64_t text_bytes) {
    std::memcpy(out, kMagic, sizeof kMagic);
    store(out, 4, kVersion);
    store(out, 6, std::uint16_t{0});
    store(out, 8, static_cast<std::uint32_t>(token_count));
    store(out, 12, static_cast<std::uint32_t>(text_bytes));
}

}  // namespace tempra::data
