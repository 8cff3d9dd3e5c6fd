// What there is of CUDA, and the memory of its devices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tempra/device.h"

namespace tempra {

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
    std::string attention;  // which kernels serve it and why, in one line; empty without a device
};
// Loads the CUDA library if there is one; never throws for a lack of it.
[[nodiscard]] CudaStatus cuda_status();
// Where the library is, if nothing in the process or TEMPRA_CUDA_LIBRARY says otherwise.
[[nodiscard]] std::string cuda_library_path();        // of the loaded one; empty: none yet
void set_cuda_library_path(const std::string& path);  // DeviceError: another is loaded already

// Whether attention's gradients add up in one order, so that runs agree to the last bit: they do
// unless told otherwise. DeviceError where there is no CUDA library.
void set_cuda_deterministic(bool deterministic);

// The rest raises DeviceError where the device cannot be used. `index` is its number.

// Bytes of tensors and of kernels' working memory.
struct CudaMemory {
    std::int64_t bytes_requested = 0;  // asked for by holders, now
    std::int64_t bytes_in_use = 0;     // the same, rounded up to size classes, and graphs'
    std::int64_t peak_bytes_in_use = 0;
    std::int64_t bytes_reserved = 0;  // taken from the driver: in use, cached or pending
    std::int64_t peak_bytes_reserved = 0;
    std::int64_t largest_free_block = 0;
    std::int64_t allocations = 0;
    double fragmentation = 0;  // share of bytes_reserved that no holder asked for
};
[[nodiscard]] CudaMemory cuda_memory(int index);
void reset_peak_cuda_memory(int index);
void release_free_cuda_memory(int index);  // back to the driver

// Waits until the device has done everything; raises what kernels found out there (ShapeError for
// an index out of range).
void synchronize_cuda(int index);

// What is put on a device from here to `end` is recorded and not run; each `launch` runs it with
// the same arguments on the same memory, so what varies between launches has to lie in device
// memory. Meanwhile nothing may be read from the device, or sent to it: that raises DeviceError.
// Memory of tensors made or released meanwhile is the graph's for as long as it lives. Run what is
// recorded once before: what kernels set up at their first use is not a part of it.
class CudaGraph {
  public:
    explicit CudaGraph(int index);
    CudaGraph(const CudaGraph&) = delete;
    CudaGraph& operator=(const CudaGraph&) = delete;
    ~CudaGraph();  // waits for the launches

    void end();
    void discard() noexcept;  // instead of `end`, as the destructor does: nothing is kept
    void launch();

  private:
    int index_;
    void* graph_ = nullptr;
    bool has_ended_ = false, launched_ = false;
};

// Where the host met a device since the start of the process, on all devices together.
struct CudaTraffic {
    std::int64_t waits = 0;           // the host waited for a device
    std::int64_t held_back = 0;       // it was so far ahead that it waited for an earlier copy
    std::int64_t copies_to_host = 0;  // each of them waits, and is counted there too
    std::int64_t copies_to_device = 0;
    std::int64_t bytes_to_host = 0, bytes_to_device = 0;
    std::int64_t captures = 0;  // graphs that were recorded
    std::int64_t graph_launches = 0;
};
[[nodiscard]] CudaTraffic cuda_traffic();

}  // namespace tempra
