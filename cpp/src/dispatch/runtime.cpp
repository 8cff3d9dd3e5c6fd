#include "tempra/runtime.h"

#include "dispatch/select.h"
#include "memory/caching_pool.h"

namespace tempra {

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

}  // namespace tempra
