#include "platform/memory_info.h"

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "platform/cgroup.h"

namespace tempra::platform {

namespace {

// A line "Key:   1234 kB" of a /proc file, in bytes.
std::int64_t read_kilobytes(const char* path, std::string_view key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(key)) continue;
        std::istringstream rest(line.substr(key.size()));
        std::int64_t kilobytes = 0;
        return rest >> kilobytes ? kilobytes * 1024 : 0;
    }
    return 0;
}

}  // namespace

MemoryInfo memory_info() {
    MemoryInfo info;
    info.resident = read_kilobytes("/proc/self/status", "VmRSS:");
    info.peak_resident = read_kilobytes("/proc/self/status", "VmHWM:");
    info.total = read_kilobytes("/proc/meminfo", "MemTotal:");
    info.available = read_kilobytes("/proc/meminfo", "MemAvailable:");
    info.limit = read_cgroup_limits().memory_bytes;
    return info;
}

}  // namespace tempra::platform
