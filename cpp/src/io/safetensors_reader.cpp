// An open, mapped safetensors file.
#include <unordered_map>
#include <utility>

#include "io/json_reader.h"
#include "platform/mapped_file.h"
#include "tempra/error.h"
#include "tempra/io/safetensors.h"

namespace tempra::io {

struct SafetensorsFile::State {
    explicit State(const std::string& path)
        : file(path), index(parse_safetensors(file.data(), file.size(), path)) {
        for (const SafetensorsEntry& entry : index.entries) by_name.emplace(entry.name, &entry);
    }

    platform::MappedFile file;
    SafetensorsIndex index;
    std::unordered_map<std::string_view, const SafetensorsEntry*> by_name;
};

SafetensorsFile::SafetensorsFile(const std::string& path) : state_(std::make_unique<State>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const noexcept { return state_->file.path(); }
const std::vector<SafetensorsEntry>& SafetensorsFile::entries() const noexcept {
    return state_->index.entries;
}
const std::map<std::string, std::string>& SafetensorsFile::metadata() const noexcept {
    return state_->index.metadata;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
    const auto found = state_->by_name.find(name);
    return found == state_->by_name.end() ? nullptr : found->second;
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
    const SafetensorsEntry* entry = find(name);
    TEMPRA_CHECK(FormatError, entry != nullptr, "{}: no tensor {} among its {}", path(),
                 quoted_name(name), entries().size());
    return *entry;
}

std::span<const std::byte> SafetensorsFile::data(const SafetensorsEntry& entry) const {
    return {state_->file.data() + state_->index.data_offset + entry.begin,
            static_cast<size_t>(entry.end - entry.begin)};
}

}  // namespace tempra::io
