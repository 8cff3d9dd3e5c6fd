#include "dispatch/select.h"

#include <array>
#include <atomic>
#include <cstdlib>

#include "dispatch/backends.h"
#include "dispatch/cuda_kernels.h"
#include "tempra/error.h"

namespace tempra {

namespace {

using cpu::Isa;

std::array<KernelTable, 4> fill_all_tables() {
    std::array<KernelTable, 4> tables;
    cpu::baseline::fill_kernel_table(tables[0]);
#if TEMPRA_ISA_LEVEL >= 1
    cpu::avx2::fill_kernel_table(tables[1]);
#endif
#if TEMPRA_ISA_LEVEL >= 2
    cpu::avx512::fill_kernel_table(tables[2]);
#endif
#if TEMPRA_ISA_LEVEL >= 3
    cpu::avx512_bf16::fill_kernel_table(tables[3]);
#endif
    return tables;
}

const std::array<KernelTable, 4>& all_tables() {
    static const std::array<KernelTable, 4> tables = fill_all_tables();
    return tables;
}

void check_supported(Isa isa) {
    TEMPRA_CHECK(DeviceError, isa <= cpu::detect_isa(),
                 "instruction set {} cannot run here: this processor and build support up to {}",
                 cpu::name_of(isa), cpu::name_of(cpu::detect_isa()));
}

Isa initial_isa() {
    const char* forced = std::getenv("TEMPRA_ISA");
    if (forced == nullptr || *forced == '\0') return cpu::detect_isa();
    const Isa isa = cpu::isa_from_name(forced);
    check_supported(isa);
    return isa;
}

std::atomic<Isa>& isa_in_use() {
    static std::atomic<Isa> isa = initial_isa();
    return isa;
}

}  // namespace

const KernelTable& cpu_kernel_table(Isa isa) {
    check_supported(isa);
    return all_tables()[static_cast<size_t>(isa)];
}

Isa current_isa() { return isa_in_use().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
    check_supported(isa);
    isa_in_use().store(isa, std::memory_order_relaxed);
}

const KernelTable& kernels_for(const Device& device, DType dtype) {
    if (device.type == DeviceType::cuda) return cuda_kernel_table(device.index);
    const bool per_isa = dtype == DType::f32 || dtype == DType::bf16;
    return all_tables()[per_isa ? static_cast<size_t>(current_isa()) : 0];
}

KernelContext context_on(const Device& device) { return cuda_kernel_context(device.index); }

namespace {

// The library leaves its reason; the operation's name opens the line.
[[noreturn]] void raise_from_cuda(KernelStatus status, const char* operation, DType dtype,
                                  const Device& device) {
    if (status == kKernelUnsupportedDtype) {
        throw DtypeError(format("{}: dtype {} is not supported on {}", operation, dtype, device));
    }
    const std::string said = format("{}: {}", operation, cuda_failure(device.index));
    if (status == kKernelOutOfMemory) throw Error(said);
    if (status == kKernelIndexOutOfRange) throw ShapeError(said);
    throw DeviceError(said);
}

}  // namespace

void check_status(KernelStatus status, const char* operation, DType dtype, const Device& device) {
    if (status == kKernelOk) return;
    if (device.type == DeviceType::cuda) raise_from_cuda(status, operation, dtype, device);
    switch (status) {
        case kKernelUnsupportedDtype:
            throw DtypeError(format("{}: dtype {} is not supported", operation, dtype));
        case kKernelOutOfMemory:
            throw Error(format("{}: out of memory for the kernel's scratch space", operation));
        case kKernelIndexOutOfRange:
            throw ShapeError(format("{}: an index is outside the indexed dimension", operation));
        default: throw Error(format("{}: kernel failed with status {}", operation, status));
    }
}

void raise_mixed_devices(const char* operation, const Device& one, const Device& other) {
    throw DeviceError(format("{}: tensors on {} and {}; move them to one device with .to(...)",
                             operation, one, other));
}

}  // namespace tempra
