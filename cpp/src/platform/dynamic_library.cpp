#include "platform/dynamic_library.h"

#include <dlfcn.h>
#include <link.h>

namespace tempra::platform {

namespace {

std::string file_of(void* handle, const std::string& otherwise) {
    link_map* map = nullptr;
    if (dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void*>(&map)) != 0 || map == nullptr ||
        map->l_name == nullptr || *map->l_name == '\0') {
        return otherwise;
    }
    return map->l_name;
}

}  // namespace

bool DynamicLibrary::open(const std::string& name, std::string& reason) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) {
        const char* const error = dlerror();
        reason = error != nullptr ? error : "the system gives no reason";
        return false;
    }
    path_ = file_of(handle_, name);
    return true;
}

bool DynamicLibrary::open_loaded(const std::string& name) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle_ == nullptr) return false;
    path_ = file_of(handle_, name);
    return true;
}

void* DynamicLibrary::symbol(const char* name) const noexcept {
    return handle_ == nullptr ? nullptr : dlsym(handle_, name);
}

}  // namespace tempra::platform
