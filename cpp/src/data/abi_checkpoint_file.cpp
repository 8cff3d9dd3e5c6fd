#include "platform/mapped_file.h"
#include "tempra/data/abi_checkpoint.h"

namespace tempra::data {

struct AbiCheckpointFile::State {
    explicit State(const std::string& path)
        : file(path),
          contents(parse_abi_checkpoint({file.data(), static_cast<size_t>(file.size())}, path)) {}

    platform::MappedFile file;
    AbiCheckpoint contents;
};

AbiCheckpointFile::AbiCheckpointFile(const std::string& path)
    : state_(std::make_unique<State>(path)) {}
AbiCheckpointFile::~AbiCheckpointFile() = default;
AbiCheckpointFile::AbiCheckpointFile(AbiCheckpointFile&&) noexcept = default;
AbiCheckpointFile& AbiCheckpointFile::operator=(AbiCheckpointFile&&) noexcept = default;

const AbiCheckpoint& AbiCheckpointFile::contents() const noexcept { return state_->contents; }

}  // namespace tempra::data
