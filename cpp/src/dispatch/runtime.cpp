#include "tempra/runtime.h"

#include <charconv>

#include "dispatch/select.h"
#include "memory/caching_pool.h"
#include "tempra/error.h"

namespace tempra {

Device device_from_name(std::string_view name) {
    if (name == "cpu") return {};
    constexpr std::string_view kCuda = "cuda", kNumbered = "cuda:";
    std::int16_t index = 0;
    bool valid = name == kCuda;
    if (name.starts_with(kNumbered)) {
        const char* const end = name.data() + name.size();
        const auto [last, error] = std::from_chars(name.data() + kNumbered.size(), end, index);
        valid = error == std::errc() && last == end && index >= 0;
    }
    TEMPRA_CHECK(DeviceError, valid, "device {}: not a device; cpu, cuda or cuda:N is needed",
                 name);
    return {DeviceType::cuda, index};
}

std::string current_isa_name() { return cpu::name_of(current_isa()); }
void force_isa(std::string_view name) { set_isa(cpu::isa_from_name(name)); }

std::vector<std::string> supported_isa_names() {
    std::vector<std::string> names;
    for (int isa = 0; isa <= static_cast<int>(cpu::detect_isa()); ++isa) {
        names.emplace_back(cpu::name_of(static_cast<cpu::Isa>(isa)));
    }
    return names;
}

MemoryUse memory_use() {
    const MemoryStatistics pool = pool_statistics();
    return {pool.bytes_in_use, pool.peak_bytes_in_use, pool.bytes_reserved,
            pool.peak_bytes_reserved, pool.allocations};
}
void reset_peak_memory() { pool_reset_peak(); }
void release_free_memory() { pool_trim(); }

void check_device(std::string_view name) {
    const Device device = device_from_name(name);
    if (device.type == DeviceType::cuda) static_cast<void>(context_on(device));
}

}  // namespace tempra
