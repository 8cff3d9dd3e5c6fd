// Limits that a container or service manager puts on this process (control groups v1 and v2).
#pragma once

#include <cstdint>
#include <string>

namespace tempra::platform {

struct CgroupLimits {
    double cpus = 0.0;              // CPU time per wall time; 0: no limit
    std::int64_t memory_bytes = 0;  // 0: no limit
};

// The tightest limit on the way from this process's group to the root. Unreadable or malformed
// files count as "no limit". `root` is prefixed to every path (for tests).
[[nodiscard]] CgroupLimits read_cgroup_limits(const std::string& root = "");

}  // namespace tempra::platform
