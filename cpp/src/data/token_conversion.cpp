// Whole-file conversions between token-bin and WDBX.
#include <cerrno>

#include "platform/files.h"
#include "tempra/data/wdbx_token_dataset.h"
#include "tempra/error.h"

namespace tempra::data {

std::int64_t token_bin_to_wdbx(const std::string& source, const std::string& destination,
                               std::int64_t block_tokens, ExistingFile existing,
                               const io::WriteCheck& check) {
    if (existing == ExistingFile::fail && platform::exists(destination)) {
        throw IoError(format("{}: exists already; replace it or append to it (mode)", destination),
                      EEXIST);
    }
    WdbxTokenDataset dataset = existing == ExistingFile::append
                                   ? WdbxTokenDataset(destination)
                                   : WdbxTokenDataset::create(destination);
    const std::int64_t tokens = dataset.import_token_bin(source, block_tokens);
    dataset.save(check);
    return tokens;
}

std::int64_t wdbx_to_token_bin(const std::string& source, const std::string& destination,
                               std::int64_t max_tokens, const io::WriteCheck& check) {
    if (!platform::exists(source)) {
        throw IoError(format("open {}: No such file or directory", source), ENOENT);
    }
    return WdbxTokenDataset(source).export_token_bin(destination, max_tokens, check);
}

}  // namespace tempra::data
