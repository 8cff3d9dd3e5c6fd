#include "error_message.h"

#include <cuda_runtime_api.h>

#include <mutex>

namespace tempra::cuda {

namespace {

thread_local std::string thread_message;

std::mutex services_mutex;
TempraCudaHostServices services{};

}  // namespace

TempraCudaStatus fail(TempraCudaStatus status, const std::string& message) noexcept {
    try {
        thread_message = message;
    } catch (...) {  // no memory for the text: the status has to do
        thread_message.clear();
    }
    const TempraCudaHostServices host = host_services();
    if (host.error != nullptr) host.error(host.user, status, message.c_str());
    return status;
}

const char* last_error() noexcept { return thread_message.c_str(); }

void set_host_services(const TempraCudaHostServices& given) noexcept {
    const std::scoped_lock lock(services_mutex);
    services = given;
}

TempraCudaHostServices host_services() noexcept {
    const std::scoped_lock lock(services_mutex);
    return services;
}

TempraCudaStatus fail_with_cuda_error(const char* call, int error) noexcept {
    static_cast<void>(cudaGetLastError());  // answered here: the next launch would be blamed for it
    const auto code = static_cast<cudaError_t>(error);
    const TempraCudaStatus status =
        code == cudaErrorMemoryAllocation ? TEMPRA_CUDA_OUT_OF_MEMORY : TEMPRA_CUDA_FAILED;
    return fail(status, std::string(call) + ": " + cudaGetErrorString(code) + " (" +
                            cudaGetErrorName(code) + ")");
}

TempraCudaStatus finish_launch(const char* kernel, void* stream) noexcept {
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return fail_with_cuda_error(kernel, error);
    const TempraCudaHostServices host = host_services();
    if (host.kernel_launched != nullptr) host.kernel_launched(host.user, kernel, stream);
    return TEMPRA_CUDA_OK;
}

}  // namespace tempra::cuda
