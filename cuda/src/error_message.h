// The calling thread's last failure, and the host's services.
#pragma once

#include <string>

#include "tempra_cuda/abi.h"

struct CUstream_st;

namespace tempra::cuda {

// Keeps `message` for `last_error`, tells the host, and returns `status`.
TempraCudaStatus fail(TempraCudaStatus status, const std::string& message) noexcept;
[[nodiscard]] const char* last_error() noexcept;

void set_host_services(const TempraCudaHostServices& services) noexcept;
[[nodiscard]] TempraCudaHostServices host_services() noexcept;

// At the end of every kernel launch: turns a failed launch into a status, else tells the host.
[[nodiscard]] TempraCudaStatus finish_launch(const char* kernel, void* stream) noexcept;

// `call` failed with this cudaError_t, which the runtime forgets.
TempraCudaStatus fail_with_cuda_error(const char* call, int error) noexcept;

}  // namespace tempra::cuda
