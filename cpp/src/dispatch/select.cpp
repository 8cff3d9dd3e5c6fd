#include "dispatch/select.h"

#include <array>
#include <atomic>
#include <cstdlib>

#include "dispatch/backends.h"
#include "dispatch/cuda_library.h"
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

// A missing library, driver or device is the better answer where it applies.
[[noreturn]] void refuse_cuda(const Device& device) {
    cuda_loader().check_device(device.index);
    throw DeviceError(
        format("device {}: this build cannot compute on CUDA yet; use device cpu", device));
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
    if (device.type == DeviceType::cuda) refuse_cuda(device);
    const bool per_isa = dtype == DType::f32 || dtype == DType::bf16;
    return all_tables()[per_isa ? static_cast<size_t>(current_isa()) : 0];
}

void check_status(KernelStatus status, const char* operation, DType dtype) {
    switch (status) {
        case kKernelOk: return;
        case kKernelUnsupportedDtype:
            throw DtypeError(format("{}: dtype {} is not supported", operation, dtype));
        case kKernelOutOfMemory:
            throw Error(format("{}: out of memory for the kernel's scratch space", operation));
        case kKernelIndexOutOfRange:
            throw ShapeError(format("{}: an index is outside the indexed dimension", operation));
        default: throw Error(format("{}: kernel failed with status {}", operation, status));
    }
}

}  // namespace tempra
