// cuDNN, found and loaded when attention first asks for it; see library_search.h for where. Its
// absence is no error: our own kernels do what it would have done.
#pragma once

#include <cstddef>
#include <string>

namespace tempra::cuda {

struct CudnnLibrary {
    void* file = nullptr;     // of dlopen
    std::size_t version = 0;  // 10000 * major + 100 * minor + patch
    std::string path;

    [[nodiscard]] std::string name() const;  // "cuDNN 9.28.1"
};

// The oldest that is used: the first whose gradients add up in one order on all architectures.
inline constexpr std::size_t kOldestCudnn = 91800;

// Null, with the reason in half a line, when there is none that can be used. The answer is kept.
[[nodiscard]] const CudnnLibrary* cudnn_library(std::string& reason);

}  // namespace tempra::cuda
