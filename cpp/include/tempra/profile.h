// Where time goes: named ranges, counted and timed on the thread that enters them. Off by default;
// then a range costs one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace tempra {

struct ProfileEntry {
    std::string name;
    std::int64_t calls = 0;
    std::int64_t nanoseconds = 0;  // inside the range, ranges within it included
};

// Collection for the whole process. Starting clears what was collected before.
void start_profile();
void stop_profile();
// Entries by name, the longest first.
[[nodiscard]] std::vector<ProfileEntry> profile_entries();

namespace detail {
extern std::atomic<bool> profile_enabled;
[[nodiscard]] std::int64_t profile_clock() noexcept;
void record_profile_range(const char* name, std::int64_t nanoseconds) noexcept;
}  // namespace detail

// Times its own lifetime under `name`, a string that outlives it. Every kernel call has one.
class ProfileScope {
  public:
    explicit ProfileScope(const char* name) noexcept
        : name_(detail::profile_enabled.load(std::memory_order_relaxed) ? name : nullptr),
          start_(name_ != nullptr ? detail::profile_clock() : 0) {}
    ~ProfileScope() {
        if (name_ != nullptr) detail::record_profile_range(name_, detail::profile_clock() - start_);
    }
    ProfileScope(const ProfileScope&) = delete;
    ProfileScope& operator=(const ProfileScope&) = delete;

  private:
    const char* name_;
    std::int64_t start_;
};

}  // namespace tempra
