// Instruction sets the CPU kernels are built for, and which of them this machine can run.
#pragma once

#include <string_view>

namespace tempra::cpu {

// In ascending order: each includes the ones before it.
enum class Isa { baseline, avx2, avx512, avx512_bf16 };

[[nodiscard]] const char* name_of(Isa isa);
// Raises ConfigError that lists the valid names.
[[nodiscard]] Isa isa_from_name(std::string_view name);
// The best ISA of this processor that this build has kernels for.
[[nodiscard]] Isa detect_isa();

}  // namespace tempra::cpu
