#include "dispatch/cuda_kernels.h"

#include <algorithm>
#include <cstring>

#include "memory/cuda_stream.h"
#include "tempra/error.h"

namespace tempra {

KernelTable kernels_of(const TempraCudaLibrary& library) {
    KernelTable kernels;
    std::int64_t bytes = 0;
    std::memcpy(&bytes, library.kernels, sizeof(bytes));
    TEMPRA_CHECK(DeviceError, bytes >= static_cast<std::int64_t>(sizeof(std::int64_t)),
                 "CUDA: the library's table of kernels has {} bytes", bytes);
    std::memcpy(static_cast<void*>(&kernels), library.kernels,
                std::min(static_cast<std::size_t>(bytes), sizeof(kernels)));
    return kernels;
}

const KernelTable& cuda_kernel_table(int index) {
    static const KernelTable kernels = kernels_of(CudaStream::of(index).library());
    return kernels;
}

KernelContext cuda_kernel_context(int index) { return {CudaStream::of(index).handle()}; }

const char* cuda_failure(int index) { return CudaStream::of(index).library().last_error(); }

}  // namespace tempra
