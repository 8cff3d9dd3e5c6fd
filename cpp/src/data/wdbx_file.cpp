// An open, mapped WDBX file.
#include <utility>

#include "data/wdbx_format.h"
#include "platform/mapped_file.h"

namespace tempra::data {

struct WdbxFile::State {
    State(const std::string& path, const WdbxReadOptions& options)
        : file(path), layout(parse_wdbx(bytes(), path, options)) {}

    [[nodiscard]] std::span<const std::byte> bytes() const {
        return {file.data(), static_cast<size_t>(file.size())};
    }

    platform::MappedFile file;
    WdbxLayout layout;
};

WdbxFile::WdbxFile(const std::string& path, const WdbxReadOptions& options)
    : state_(std::make_unique<State>(path, options)) {}
WdbxFile::~WdbxFile() = default;
WdbxFile::WdbxFile(WdbxFile&&) noexcept = default;
WdbxFile& WdbxFile::operator=(WdbxFile&&) noexcept = default;

const std::string& WdbxFile::path() const noexcept { return state_->file.path(); }
std::int64_t WdbxFile::size() const noexcept { return state_->file.size(); }
const WdbxLayout& WdbxFile::layout() const noexcept { return state_->layout; }

std::span<const std::byte> WdbxFile::bytes(const WdbxSection& section) const {
    return wdbx::slice(state_->bytes(), section.offset, section.length);
}

WdbxRecordCursor WdbxFile::records() const {
    return WdbxRecordCursor(bytes(*layout().find(wdbx_section::kVectors)));
}

}  // namespace tempra::data
