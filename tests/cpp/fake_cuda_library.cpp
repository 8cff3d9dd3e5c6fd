// Stands in for libtempra_cuda.so: the interface without a GPU behind it. FAKE_KIND chooses what is
// wrong with it.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dispatch/kernel_table.h"

#define TEMPRA_CUDA_BUILDING_LIBRARY
#include "tempra_cuda/abi.h"

#define FAKE_GOOD 0
#define FAKE_WITHOUT_ENTRY 1
#define FAKE_OF_ANOTHER_VERSION 2
#define FAKE_WITHOUT_DRIVER 3
#define FAKE_WITH_SHORT_TABLE 4
#define FAKE_WITH_OLDER_KERNELS 5

#if FAKE_KIND != FAKE_WITHOUT_ENTRY

namespace {

const char* message = "";

TempraCudaStatus versions(TempraCudaVersions* out) {
    out->driver = FAKE_KIND == FAKE_WITHOUT_DRIVER ? 0 : 13000;
    out->runtime = 13000;
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus device_count(std::int32_t* out) {
    if (FAKE_KIND == FAKE_WITHOUT_DRIVER) {
        message = "CUDA: no driver in this fake";
        return TEMPRA_CUDA_NO_DRIVER;
    }
    *out = 2;
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus device_info(std::int32_t device, TempraCudaDeviceInfo* out) {
    std::int32_t count = 0;
    const TempraCudaStatus status = device_count(&count);
    if (status != TEMPRA_CUDA_OK) return status;
    if (device < 0 || device >= count) {
        message = "CUDA: no such device in this fake";
        return TEMPRA_CUDA_BAD_DEVICE_INDEX;
    }
    std::snprintf(out->name, sizeof(out->name), "Fake %d", device);
    out->compute_major = 9 - device;
    out->compute_minor = 0;
    out->multiprocessors = 100;
    out->usable = device == 0 ? 1 : 0;
    out->total_bytes = 2000;
    out->free_bytes = 1000;
    return TEMPRA_CUDA_OK;
}

const char* last_error() { return message; }

// Device memory is the host's here, and everything put on a stream is done at once.
char stream_and_event = 0;

TempraCudaStatus make_handle(void** out) {
    *out = &stream_and_event;
    return TEMPRA_CUDA_OK;
}
TempraCudaStatus with_handle(void*) { return TEMPRA_CUDA_OK; }
TempraCudaStatus with_handles(void*, void*) { return TEMPRA_CUDA_OK; }
TempraCudaStatus set_device(std::int32_t) { return TEMPRA_CUDA_OK; }
TempraCudaStatus is_complete(void*, std::int32_t* complete) {
    *complete = 1;
    return TEMPRA_CUDA_OK;
}
TempraCudaStatus allocate(std::int64_t bytes, void*, void** out) {
    *out = std::malloc(static_cast<std::size_t>(bytes));
    return TEMPRA_CUDA_OK;
}
TempraCudaStatus allocate_pinned(std::int64_t bytes, void** out) {
    return allocate(bytes, nullptr, out);
}
TempraCudaStatus release(void* block) {
    std::free(block);
    return TEMPRA_CUDA_OK;
}
TempraCudaStatus copy(void* to, const void* from, std::int64_t bytes, void*) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return TEMPRA_CUDA_OK;
}

void fill_memory_functions(TempraCudaLibrary& table) {
    table.set_device = set_device;
    table.stream_create = make_handle;
    table.stream_destroy = with_handle;
    table.stream_synchronize = with_handle;
    table.allocate = allocate;
    table.release = release;
    table.record_use = with_handles;
    table.allocate_pinned = allocate_pinned;
    table.release_pinned = release;
    table.copy_to_device = copy;
    table.copy_to_host = copy;
    table.copy_on_device = copy;
    table.event_create = make_handle;
    table.event_destroy = with_handle;
    table.event_record = with_handles;
    table.event_is_complete = is_complete;
    table.event_synchronize = with_handle;
    table.stream_wait = with_handles;
}

}  // namespace

extern "C" TempraCudaStatus tempra_cuda_open(std::int32_t version, const TempraCudaHostServices*,
                                             const TempraCudaLibrary** library, char* reason,
                                             std::int64_t reason_bytes) {
    static tempra::KernelTable kernels;
    static TempraCudaLibrary table;
    if (version != TEMPRA_CUDA_ABI_VERSION || FAKE_KIND == FAKE_OF_ANOTHER_VERSION) {
        std::snprintf(reason, static_cast<std::size_t>(reason_bytes), "speaks another version");
        return TEMPRA_CUDA_WRONG_ABI_VERSION;
    }
    kernels.fill = [](const tempra::KernelContext&, const tempra::TensorView&, double) {
        return tempra::kKernelOk;
    };
    kernels.adamw = [](const tempra::KernelContext&, const tempra::AdamWArguments&) {
        return tempra::kKernelOk;
    };
    if (FAKE_KIND == FAKE_WITH_OLDER_KERNELS) kernels.size = offsetof(tempra::KernelTable, adamw);
    table.size = FAKE_KIND == FAKE_WITH_SHORT_TABLE ? 16 : sizeof(table);
    table.abi_version = TEMPRA_CUDA_ABI_VERSION;
    table.version = "fake";
    table.architectures = "90a";
    table.kernels = &kernels;
    table.last_error = last_error;
    table.versions = versions;
    table.device_count = device_count;
    table.device_info = device_info;
    table.attention_kernels = [] { return "the fake's kernels"; };
    fill_memory_functions(table);
    *library = &table;
    return TEMPRA_CUDA_OK;
}

#endif
