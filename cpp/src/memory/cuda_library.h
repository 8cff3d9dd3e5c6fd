// Finds, loads and checks the CUDA library. The core knows it by its C interface alone.
//
// Nothing is loaded before the first question about CUDA. Looked at in this order: the file named
// by TEMPRA_CUDA_LIBRARY, and then nothing else; a library of that name already in the process; the
// file given to `set_cuda_library_path`; what the system's search finds.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "platform/dynamic_library.h"
#include "tempra/cuda.h"
#include "tempra_cuda/abi.h"

namespace tempra {

inline constexpr const char* kCudaLibraryName = "libtempra_cuda.so";

class CudaLoader {
  public:
    // The library's functions; DeviceError with the reason when there is none that this host can
    // use, and in a process forked from the one that loaded it.
    [[nodiscard]] const TempraCudaLibrary& library();
    // DeviceError unless the driver has a device of this number and the library has code for it.
    void check_device(int index);

    [[nodiscard]] CudaStatus status();
    [[nodiscard]] std::string loaded_path();  // empty: no library has been loaded yet
    // Ends with DeviceError once a library is loaded from elsewhere.
    void set_path(const std::string& path);

  private:
    const TempraCudaLibrary& library_locked();
    void load();
    void check_interface();

    std::mutex mutex_;
    std::string given_path_;
    platform::DynamicLibrary file_;
    const TempraCudaLibrary* library_ = nullptr;
    std::int64_t process_ = 0;  // that loaded it
};

[[nodiscard]] CudaLoader& cuda_loader();

}  // namespace tempra
