// Control-group limits and memory figures.
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "platform/cgroup.h"
#include "platform/memory_info.h"
#include "platform/process.h"
#include "temporary_directory.h"

namespace tempra::platform {
namespace {

// A file tree that stands in for /.
class FakeSystem {
  public:
    void add(const std::string& path, const std::string& text) {
        std::filesystem::create_directories(std::filesystem::path(folder_ / path).parent_path());
        write_text(folder_ / path, text);
    }
    [[nodiscard]] CgroupLimits limits() const { return read_cgroup_limits(folder_.path()); }

  private:
    TemporaryDirectory folder_;
};

TEST(CgroupLimits, UnifiedHierarchyTakesTheTightestLevel) {
    FakeSystem system;
    system.add("proc/self/mountinfo",
               "25 24 0:23 / /proc rw - proc proc rw\n"
               "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
    system.add("proc/self/cgroup", "0::/user/job\n");
    system.add("sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
    system.add("sys/fs/cgroup/user/job/memory.max", "8000000\n");
    system.add("sys/fs/cgroup/user/cpu.max", "250000 100000\n");
    system.add("sys/fs/cgroup/user/memory.max", "4000000\n");
    system.add("sys/fs/cgroup/memory.max", "max\n");
    EXPECT_DOUBLE_EQ(system.limits().cpus, 2.5);
    EXPECT_EQ(system.limits().memory_bytes, 4'000'000);
}

TEST(CgroupLimits, SeparateHierarchies) {
    FakeSystem system;
    system.add("proc/self/mountinfo",
               "31 24 0:27 /box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
               "32 24 0:28 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    system.add("proc/self/cgroup", "4:memory:/box/inner\n2:cpu,cpuacct:/box/inner\n0::/\n");
    system.add("sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "150000\n");
    system.add("sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "50000\n");
    system.add("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    system.add("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000\n");
    system.add("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n");
    system.add("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n");
    EXPECT_DOUBLE_EQ(system.limits().cpus, 3.0);
    EXPECT_EQ(system.limits().memory_bytes, 1'048'576);
}

TEST(CgroupLimits, MissingAndMalformedFilesMeanNoLimit) {
    FakeSystem empty;
    EXPECT_EQ(empty.limits().cpus, 0.0);
    EXPECT_EQ(empty.limits().memory_bytes, 0);
    FakeSystem odd;
    odd.add("proc/self/mountinfo", "nonsense\n30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n- - -\n");
    odd.add("proc/self/cgroup", "::\n0\n0::/\n");
    odd.add("cg/cpu.max", "abc def ghi\n");
    odd.add("cg/memory.max", "12 MB\n");
    EXPECT_EQ(odd.limits().cpus, 0.0);
    EXPECT_EQ(odd.limits().memory_bytes, 0);
}

TEST(MemoryInfo, FollowsThisProcess) {
    const MemoryInfo before = memory_info();
    EXPECT_GT(before.resident, 0);
    EXPECT_GE(before.peak_resident, before.resident);
    EXPECT_GT(before.total, before.resident);
    EXPECT_GT(before.available, 0);
    EXPECT_LE(before.available, before.total);
    EXPECT_GE(before.limit, 0);
    constexpr size_t kBytes = size_t{64} << 20;
    std::vector<char> block(kBytes, 1);
    EXPECT_GT(memory_info().resident, before.resident + static_cast<std::int64_t>(kBytes) / 2);
    EXPECT_EQ(block[kBytes - 1], 1);
    block = {};
    EXPECT_GT(memory_info().peak_resident, before.resident + static_cast<std::int64_t>(kBytes) / 2);
}

TEST(Process, KnowsWhoLives) {
    EXPECT_TRUE(process_exists(process_id()));
    EXPECT_TRUE(process_exists(1));
    EXPECT_FALSE(process_exists(0x7FFFFFFF));
}

}  // namespace
}  // namespace tempra::platform
