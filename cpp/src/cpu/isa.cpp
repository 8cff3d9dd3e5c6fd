#include "cpu/isa.h"

#include <algorithm>

#include "tempra/error.h"

namespace tempra::cpu {

const char* name_of(Isa isa) {
    switch (isa) {
        case Isa::baseline: return "baseline";
        case Isa::avx2: return "avx2";
        case Isa::avx512: return "avx512";
        case Isa::avx512_bf16: return "avx512_bf16";
    }
    return "?";
}

Isa isa_from_name(std::string_view name) {
    for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
        if (name == name_of(isa)) return isa;
    }
    throw ConfigError(format(
        "TEMPRA_ISA: '{}' is not an instruction set; choose baseline, avx2, avx512 or avx512_bf16",
        name));
}

Isa detect_isa() {
#if TEMPRA_ISA_LEVEL >= 1
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    Isa supported = avx2 ? Isa::avx2 : Isa::baseline;
    if (avx512) supported = Isa::avx512;
    if (avx512 && __builtin_cpu_supports("avx512bf16")) supported = Isa::avx512_bf16;
    return std::min(supported, static_cast<Isa>(TEMPRA_ISA_LEVEL));
#else
    return Isa::baseline;
#endif
}

}  // namespace tempra::cpu
