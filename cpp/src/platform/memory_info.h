// Memory of this process and this machine, in bytes; 0 where the system does not tell.
#pragma once

#include <cstdint>

namespace tempra::platform {

struct MemoryInfo {
    std::int64_t resident = 0;       // of this process, now
    std::int64_t peak_resident = 0;  // of this process, at most so far
    std::int64_t total = 0;          // of the machine
    std::int64_t available = 0;      // of the machine, without swapping
    std::int64_t limit = 0;          // set on this process by its control group; 0: none
};

[[nodiscard]] MemoryInfo memory_info();

}  // namespace tempra::platform
