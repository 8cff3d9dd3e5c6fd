#include "cudnn_library.h"

#include <dlfcn.h>

#include "cublas_lt.h"
#include "library_search.h"

namespace tempra::cuda {

namespace {

struct Loaded {
    CudnnLibrary library;
    bool usable = false;
    std::string reason;
};

Loaded load() {
    Loaded loaded;
    // cuDNN looks for cuBLASLt by its name alone and ends the process where it finds none.
    if (cublas_lt(loaded.reason) == nullptr) return loaded;
    CudnnLibrary& found = loaded.library;
    found.file = find_library("libcudnn.so.9", "nvidia/cudnn/lib", loaded.reason);
    if (found.file == nullptr) {
        loaded.reason += "; install nvidia-cudnn-cu13, or put its folder on LD_LIBRARY_PATH";
        return loaded;
    }
    void* const version = dlsym(found.file, "cudnnGetVersion");
    if (version == nullptr) {
        loaded.reason = "the libcudnn.so.9 that was found has no cudnnGetVersion";
        return loaded;
    }
    found.version = reinterpret_cast<std::size_t (*)()>(version)();
    found.path = file_of(version);
    if (found.version < kOldestCudnn || found.version >= 100000) {
        CudnnLibrary needed = found;
        needed.version = kOldestCudnn;
        loaded.reason = found.path + " is " + found.name() + "; " + needed.name() +
                        " or newer, below 10, is needed";
        return loaded;
    }
    loaded.usable = true;
    return loaded;
}

}  // namespace

std::string CudnnLibrary::name() const {
    return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
           "." + std::to_string(version % 100);
}

const CudnnLibrary* cudnn_library(std::string& reason) {
#ifdef TEMPRA_CUDA_WITH_CUDNN
    static const Loaded once = load();
    if (!once.usable) reason = once.reason;
    return once.usable ? &once.library : nullptr;
#else
    static_cast<void>(load);
    reason = "libtempra_cuda.so was built without cuDNN's headers";
    return nullptr;
#endif
}

}  // namespace tempra::cuda
