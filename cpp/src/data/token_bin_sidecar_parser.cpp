#include <algorithm>
#include <array>

#include "io/json_reader.h"
#include "tempra/data/token_bin_sidecar.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

constexpr std::string_view kFormat = "tempra-token-bin";
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kMaxCount = (std::int64_t{1} << 62) - 1;
constexpr std::int64_t kMaxU32 = 0xFFFFFFFF;

constexpr std::array<std::string_view, 11> kFields = {
    "format",         "version",      "dtype",       "tokens",         "crc32",
    "documents",      "bounds_crc32", "end_of_text", "tokenizer_kind", "tokenizer_fingerprint",
    "vocabulary_size"};

std::int64_t read_number(io::JsonReader& reader, std::string_view name, std::int64_t least,
                         std::int64_t most) {
    const std::int64_t value = reader.read_integer();
    if (value < least || value > most) {
        reader.fail(format("{} is {}, {} to {} are possible", name, value, least, most));
    }
    return value;
}

std::uint32_t read_u32(io::JsonReader& reader, std::string_view name) {
    return static_cast<std::uint32_t>(read_number(reader, name, 0, kMaxU32));
}

DType read_dtype(io::JsonReader& reader) {
    const std::string name = reader.read_string();
    if (name == "u32") return DType::u32;
    if (name == "u16") return DType::u16;
    reader.fail(format("dtype is {}, u32 or u16 needed", io::quoted_name(name)));
}

void read_format(io::JsonReader& reader) {
    const std::string name = reader.read_string();
    if (name != kFormat)
        reader.fail(format("format is {}, {} needed", io::quoted_name(name), kFormat));
}

// False when `key` is no field of this version.
bool read_field(io::JsonReader& reader, std::string_view key, TokenBinSidecar& sidecar) {
    if (key == "format") {
        read_format(reader);
    } else if (key == "version") {
        (void)read_number(reader, key, kVersion, kVersion);
    } else if (key == "dtype") {
        sidecar.dtype = read_dtype(reader);
    } else if (key == "tokens") {
        sidecar.tokens = read_number(reader, key, 0, kMaxCount);
    } else if (key == "crc32") {
        sidecar.crc32 = read_u32(reader, key);
    } else if (key == "documents") {
        sidecar.documents = read_number(reader, key, 0, kMaxCount);
    } else if (key == "bounds_crc32") {
        sidecar.bounds_crc32 = read_u32(reader, key);
    } else if (key == "vocabulary_size") {
        sidecar.vocabulary_size = read_number(reader, key, 1, kMaxU32 + 1);
    } else if (key == "end_of_text") {
        if (reader.peek() == io::JsonType::null) {
            reader.read_null();
        } else {
            sidecar.end_of_text = read_u32(reader, key);
        }
    } else if (key == "tokenizer_kind") {
        sidecar.tokenizer_kind = reader.read_string();
    } else if (key == "tokenizer_fingerprint") {
        sidecar.tokenizer_fingerprint = reader.read_string();
    } else {
        return false;
    }
    return true;
}

}  // namespace

TokenBinSidecar parse_token_bin_sidecar(std::string_view text, const std::string& source) {
    io::JsonReader reader(text, source, {kMaxSidecarBytes, 16});
    TokenBinSidecar sidecar;
    std::array<bool, kFields.size()> seen{};
    reader.begin_object();
    for (std::string key; reader.next_key(key);) {
        if (!read_field(reader, key, sidecar)) {
            reader.skip_value();
            continue;
        }
        const auto* field = std::find(kFields.begin(), kFields.end(), key);
        seen[static_cast<size_t>(field - kFields.begin())] = true;
    }
    reader.finish();
    // The first two may be left out: the name of the file says as much.
    for (size_t i = 2; i < kFields.size(); ++i) {
        TEMPRA_CHECK(FormatError, seen[i], "{}: has no field {}", source, kFields[i]);
    }
    return sidecar;
}

}  // namespace tempra::data
