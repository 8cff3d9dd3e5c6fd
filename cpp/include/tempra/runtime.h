// What runs: instruction set, memory in use, CUDA devices.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tempra {

// baseline, avx2, avx512 or avx512_bf16. Set by TEMPRA_ISA at start, else the best this machine
// runs.
[[nodiscard]] std::string current_isa_name();
void force_isa(std::string_view name);  // ConfigError, DeviceError
[[nodiscard]] std::vector<std::string> supported_isa_names();

struct MemoryUse {
    std::int64_t bytes_in_use = 0;       // held by tensors and kernels now
    std::int64_t peak_bytes_in_use = 0;  // since the start or the last reset
    std::int64_t bytes_reserved = 0;     // taken from the system, free blocks included
    std::int64_t peak_bytes_reserved = 0;
    std::int64_t allocations = 0;  // requests served since the start
};
[[nodiscard]] MemoryUse memory_use();
void reset_peak_memory();
void release_free_memory();  // back to the system

struct CudaDevice {
    std::string name;
    int compute_major = 0, compute_minor = 0;
    int multiprocessors = 0;
    std::int64_t total_bytes = 0, free_bytes = 0;
    bool usable = false;  // the CUDA library has code for it
};

// What a search for CUDA finds. Fields are filled as far as it got.
struct CudaStatus {
    std::string unavailable;  // why CUDA cannot be used, in one line; empty: the devices are usable
    std::string library_path;  // of libtempra_cuda.so; empty: none was loaded
    std::string library_version;
    std::string architectures;  // it has code for: "80;90a"
    int driver_version = 0;     // newest CUDA the driver runs, 1000 * major + 10 * minor; 0: none
    int runtime_version = 0;    // CUDA the library was built with
    std::vector<CudaDevice> devices;
};
// DeviceError, with the reason, unless tensors can be computed on "cpu", "cuda" or "cuda:N".
void check_device(std::string_view name);
// Loads the CUDA library if there is one; never throws for a lack of it.
[[nodiscard]] CudaStatus cuda_status();
// Where the library is, if nothing in the process or TEMPRA_CUDA_LIBRARY says otherwise.
[[nodiscard]] std::string cuda_library_path();        // of the loaded one; empty: none yet
void set_cuda_library_path(const std::string& path);  // DeviceError: another is loaded already

}  // namespace tempra
