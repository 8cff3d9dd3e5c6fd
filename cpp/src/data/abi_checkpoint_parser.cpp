#include <string_view>

#include "data/little_endian.h"
#include "tempra/data/abi_checkpoint.h"
#include "tempra/error.h"

namespace tempra::data {

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint16_t kVersion = 1;
constexpr std::int64_t kMagicBytes = 4, kFloatBytes = 4;
constexpr std::int64_t kWeightsHeaderBytes = 26, kTrainerHeaderBytes = 46;

// Hands out the arrays that follow the header, one after the other.
class Arrays {
  public:
    Arrays(Bytes rest, const std::string& source) : rest_(rest), source_(source) {}

    Bytes take(std::string_view name, std::uint32_t count) {
        const auto bytes = static_cast<size_t>(kFloatBytes * count);
        TEMPRA_CHECK(FormatError, bytes <= rest_.size(),
                     "{}: EndOfData: {} {} need {} bytes, {} are left", source_, count, name, bytes,
                     rest_.size());
        const Bytes taken = rest_.first(bytes);
        rest_ = rest_.subspan(bytes);
        return taken;
    }

    void finish() const {
        TEMPRA_CHECK(FormatError, rest_.empty(),
                     "{}: InvalidFormat: {} bytes after the last array, where the file is to end",
                     source_, rest_.size());
    }

  private:
    Bytes rest_;
    const std::string& source_;
};

bool begins_with(Bytes file, std::string_view magic) {
    return std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

void check_length(Bytes file, std::int64_t needed, const std::string& source) {
    TEMPRA_CHECK(FormatError, std::ssize(file) >= needed,
                 "{}: EndOfData: {} bytes, the header alone has {}", source, file.size(), needed);
}

}  // namespace

AbiCheckpoint parse_abi_checkpoint(Bytes file, const std::string& source) {
    check_length(file, kMagicBytes, source);
    AbiCheckpoint checkpoint;
    checkpoint.has_moments = begins_with(file, "ABLC");
    TEMPRA_CHECK(FormatError, checkpoint.has_moments || begins_with(file, "ABIC"),
                 "{}: InvalidFormat: begins with neither ABIC nor ABLC", source);
    check_length(file, kMagicBytes + 2, source);
    const auto version = load<std::uint16_t>(file, 4);
    TEMPRA_CHECK(FormatError, version == kVersion,
                 "{}: UnsupportedVersion: version {}, {} is known", source, version, kVersion);
    check_length(file, checkpoint.has_moments ? kTrainerHeaderBytes : kWeightsHeaderBytes, source);
    checkpoint.step = load<std::uint64_t>(file, 6);
    if (!checkpoint.has_moments) {
        checkpoint.timestamp = load<std::uint64_t>(file, 14);
        Arrays arrays(file.subspan(kWeightsHeaderBytes), source);
        checkpoint.weights = arrays.take("weights", load<std::uint32_t>(file, 22));
        arrays.finish();
        return checkpoint;
    }
    checkpoint.epoch = load<std::uint32_t>(file, 14);
    checkpoint.tokens_processed = load<std::uint64_t>(file, 18);
    checkpoint.timestamp = load<std::uint64_t>(file, 26);
    Arrays arrays(file.subspan(kTrainerHeaderBytes), source);
    checkpoint.weights = arrays.take("weights", load<std::uint32_t>(file, 34));
    checkpoint.first_moments = arrays.take("first moments", load<std::uint32_t>(file, 38));
    checkpoint.second_moments = arrays.take("second moments", load<std::uint32_t>(file, 42));
    arrays.finish();
    return checkpoint;
}

}  // namespace tempra::data
