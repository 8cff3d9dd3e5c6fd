// Shared libraries loaded at run time.
#pragma once

#include <string>

namespace tempra::platform {

class DynamicLibrary {
  public:
    DynamicLibrary() = default;

    // A path, or a file name that the system's search finds. Its symbols stay its own. The library
    // is never unloaded: what came from it may be used until the process ends. False: `reason` has
    // the system's words.
    [[nodiscard]] bool open(const std::string& name, std::string& reason);
    // The same, for a library that is already in this process.
    [[nodiscard]] bool open_loaded(const std::string& name);

    [[nodiscard]] void* symbol(const char* name) const noexcept;  // null: it has none
    // The file it was loaded from.
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    void* handle_ = nullptr;
    std::string path_;
};

}  // namespace tempra::platform
