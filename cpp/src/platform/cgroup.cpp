#include "platform/cgroup.h"

#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace tempra::platform {

namespace {

// v1 writes "unlimited" as a page-rounded maximum; nothing real is near it.
constexpr std::int64_t kUnlimitedMemory = std::int64_t{1} << 60;

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    size_t begin = 0;
    while (begin <= text.size()) {
        const size_t end = std::min(text.find(separator, begin), text.size());
        if (end > begin) parts.emplace_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

bool contains(const std::vector<std::string>& parts, std::string_view wanted) {
    for (const std::string& part : parts) {
        if (part == wanted) return true;
    }
    return false;
}

// First line of a small file, or "" when there is none.
std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// -1 for anything that is not a whole non-negative number ("max" and "-1" included).
std::int64_t parse_count(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && value >= 0 ? value : -1;
}

struct Hierarchy {
    std::string mount_point;  // "" when the controller is not mounted
    std::string mount_root;   // the group that the mount point shows
    std::string group;        // this process's group
};

// Where `controller` is mounted; an empty name asks for the unified (v2) hierarchy.
Hierarchy find_hierarchy(const std::string& root, std::string_view controller) {
    Hierarchy found;
    std::ifstream mounts(root + "/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        // id parent device root mount-point options [tags...] - type source super-options
        const std::vector<std::string> fields = split(line, ' ');
        size_t dash = 0;
        while (dash < fields.size() && fields[dash] != "-") ++dash;
        if (dash < 6 || dash + 3 >= fields.size()) continue;
        const std::string& type = fields[dash + 1];
        const bool matches =
            controller.empty()
                ? type == "cgroup2"
                : type == "cgroup" && contains(split(fields[dash + 3], ','), controller);
        if (!matches) continue;
        found.mount_root = fields[3];
        found.mount_point = fields[4];
    }
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        // id:controllers:path
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string names = line.substr(first + 1, second - first - 1);
        const bool matches =
            controller.empty() ? names.empty() : contains(split(names, ','), controller);
        if (matches) found.group = line.substr(second + 1);
    }
    return found;
}

// Folders from this process's group up to the mount point.
std::vector<std::string> group_folders(const std::string& root, const Hierarchy& hierarchy) {
    std::vector<std::string> folders;
    if (hierarchy.mount_point.empty()) return folders;
    std::string below = hierarchy.group;
    // Inside a container the mount may show only a part of the hierarchy.
    if (hierarchy.mount_root != "/" && below.starts_with(hierarchy.mount_root)) {
        below = below.substr(hierarchy.mount_root.size());
    }
    while (!below.empty() && below != "/") {
        folders.push_back(root + hierarchy.mount_point + below);
        below = below.substr(0, below.rfind('/'));
    }
    folders.push_back(root + hierarchy.mount_point);
    return folders;
}

void lower_cpus(CgroupLimits& limits, std::int64_t quota, std::int64_t period) {
    if (quota <= 0 || period <= 0) return;
    const double cpus = static_cast<double>(quota) / static_cast<double>(period);
    if (limits.cpus == 0.0 || cpus < limits.cpus) limits.cpus = cpus;
}

void lower_memory(CgroupLimits& limits, std::int64_t bytes) {
    if (bytes <= 0 || bytes >= kUnlimitedMemory) return;
    if (limits.memory_bytes == 0 || bytes < limits.memory_bytes) limits.memory_bytes = bytes;
}

}  // namespace

CgroupLimits read_cgroup_limits(const std::string& root) {
    CgroupLimits limits;
    for (const std::string& folder : group_folders(root, find_hierarchy(root, ""))) {
        const std::vector<std::string> cpu_max = split(first_line(folder + "/cpu.max"), ' ');
        if (cpu_max.size() == 2)
            lower_cpus(limits, parse_count(cpu_max[0]), parse_count(cpu_max[1]));
        lower_memory(limits, parse_count(first_line(folder + "/memory.max")));
    }
    for (const std::string& folder : group_folders(root, find_hierarchy(root, "cpu"))) {
        lower_cpus(limits, parse_count(first_line(folder + "/cpu.cfs_quota_us")),
                   parse_count(first_line(folder + "/cpu.cfs_period_us")));
    }
    for (const std::string& folder : group_folders(root, find_hierarchy(root, "memory"))) {
        lower_memory(limits, parse_count(first_line(folder + "/memory.limit_in_bytes")));
    }
    return limits;
}

}  // namespace tempra::platform
