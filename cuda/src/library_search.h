// NVIDIA's libraries, found at run time and never linked. Looked at in this order: the library
// already in the process (PyTorch's, say), one beside this library, PyPI's beside this library's
// package, what the system's search finds, the toolkit's usual folder.
#pragma once

#include <string>

namespace tempra::cuda {

// `folder`: PyPI's, below site-packages ("nvidia/cu13/lib"). Null, with the reason in half a line,
// when there is none that can be loaded.
[[nodiscard]] void* find_library(const std::string& name, const std::string& folder,
                                 std::string& reason);

// The file that a function of a library lies in; "" where that is not known.
[[nodiscard]] std::string file_of(const void* function);

}  // namespace tempra::cuda
