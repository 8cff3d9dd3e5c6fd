#include "library_search.h"

#include <dlfcn.h>

#include <vector>

namespace tempra::cuda {

namespace {

// The folder this library lies in, with a slash; "" where that is not known.
std::string own_folder() {
    const std::string path = file_of(reinterpret_cast<const void*>(&find_library));
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

}  // namespace

void* find_library(const std::string& name, const std::string& folder, std::string& reason) {
    if (void* const found = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return found;
    std::vector<std::string> places;
    if (const std::string own = own_folder(); !own.empty()) {
        places = {own + name, own + "../" + folder + "/" + name};
    }
    places.push_back(name);
    places.push_back("/usr/local/cuda/lib64/" + name);
    for (const std::string& place : places) {
        if (void* const found = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
        const char* const said = dlerror();
        // A file that is there but cannot be used says more than one that is missing.
        const bool missing =
            said == nullptr || std::string(said).find("No such file") != std::string::npos;
        if (!missing) reason = said;
    }
    if (reason.empty()) reason = "no " + name + " was found";
    return nullptr;
}

std::string file_of(const void* function) {
    Dl_info info{};
    if (dladdr(function, &info) == 0 || info.dli_fname == nullptr) return "";
    return info.dli_fname;
}

}  // namespace tempra::cuda
