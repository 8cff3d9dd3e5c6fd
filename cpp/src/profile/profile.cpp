#include "tempra/profile.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string_view>

namespace tempra {

namespace detail {

std::atomic<bool> profile_enabled{false};

std::int64_t profile_clock() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace detail

namespace {

struct Totals {
    std::int64_t calls = 0;
    std::int64_t nanoseconds = 0;
};

std::mutex& totals_mutex() {
    static std::mutex mutex;
    return mutex;
}

std::map<std::string, Totals, std::less<>>& totals() {
    static std::map<std::string, Totals, std::less<>> map;
    return map;
}

}  // namespace

void detail::record_profile_range(const char* name, std::int64_t nanoseconds) noexcept {
    try {
        const std::scoped_lock lock(totals_mutex());
        auto found = totals().find(std::string_view(name));
        if (found == totals().end()) found = totals().emplace(name, Totals{}).first;
        ++found->second.calls;
        found->second.nanoseconds += nanoseconds;
    } catch (...) {  // no memory for a new name: this range goes uncounted
    }
}

void start_profile() {
    const std::scoped_lock lock(totals_mutex());
    totals().clear();
    detail::profile_enabled.store(true, std::memory_order_relaxed);
}

void stop_profile() { detail::profile_enabled.store(false, std::memory_order_relaxed); }

std::vector<ProfileEntry> profile_entries() {
    std::vector<ProfileEntry> entries;
    {
        const std::scoped_lock lock(totals_mutex());
        for (const auto& [name, total] : totals()) {
            entries.push_back({name, total.calls, total.nanoseconds});
        }
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.nanoseconds > b.nanoseconds; });
    return entries;
}

}  // namespace tempra
