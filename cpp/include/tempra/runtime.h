// What runs: instruction set, memory in use, devices by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tempra/device.h"

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

// DeviceError, with the reason, unless tensors can be computed on "cpu", "cuda" or "cuda:N".
void check_device(std::string_view name);
// The device of a name like these; DeviceError for other words. Asks no driver.
[[nodiscard]] Device device_from_name(std::string_view name);

}  // namespace tempra
