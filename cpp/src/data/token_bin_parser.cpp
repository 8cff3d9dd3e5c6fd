#include <bit>
#include <cstring>

#include "data/token_bin_format.h"
#include "tempra/data/token_bin.h"
#include "tempra/error.h"

namespace tempra::data {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

void check_token_dtype(DType dtype) {
    TEMPRA_CHECK(DtypeError, dtype == DType::u32 || dtype == DType::u16,
                 "token-bin: dtype {} given, u32 or u16 needed", dtype);
}

std::int64_t parse_token_bin(std::int64_t size, DType dtype, const std::string& source) {
    check_token_dtype(dtype);
    const std::int64_t width = size_of(dtype);
    TEMPRA_CHECK(
        FormatError, size % width == 0,
        "{}: InvalidFormat: {} bytes are not a whole number of {} tokens ({} bytes each); the "
        "file is cut short or of another format",
        source, size, dtype, width);
    return size / width;
}

void copy_tokens(const void* data, DType dtype, std::int64_t begin, std::span<std::uint32_t> out) {
    if (out.empty()) return;
    const auto* bytes = static_cast<const std::byte*>(data) + begin * size_of(dtype);
    if (dtype == DType::u32) {
        std::memcpy(out.data(), bytes, out.size_bytes());
        return;
    }
    for (size_t i = 0; i < out.size(); ++i) {
        std::uint16_t token = 0;
        std::memcpy(&token, bytes + 2 * i, sizeof token);
        out[i] = token;
    }
}

}  // namespace tempra::data
