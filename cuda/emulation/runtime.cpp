// The CUDA runtime's functions with host memory as the device's; streams, events and graphs are in
// streams.cpp. Device memory is one range of addresses that only kernels and copies may touch;
// fresh memory is filled with ones, which are not a number in every floating dtype.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "cuda_runtime.h"
#include "device_access.h"
#include "emulated_stream.h"

namespace tempra::cuda::emulation {

namespace {

constexpr std::size_t kDeviceBytes = std::size_t{8} << 30, kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// In huge pages where there are any: changing the protection of all of them is then cheap.
unsigned char* reserve_device_range() {
    void* const range = mmap(nullptr, kDeviceBytes + kHugePage, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) std::abort();
    const auto address = (reinterpret_cast<std::size_t>(range) + kHugePage - 1) & ~(kHugePage - 1);
    auto* const base = reinterpret_cast<unsigned char*>(address);
    static_cast<void>(madvise(base, kDeviceBytes, MADV_HUGEPAGE));
    return base;
}

struct DeviceArena {
    std::mutex mutex;
    unsigned char* base = reserve_device_range();
    std::size_t used = 0;                       // behind the last byte ever handed out
    std::map<std::size_t, std::size_t> blocks;  // offset to bytes
    std::size_t bytes_in_use = 0;
    std::size_t protected_bytes = 0;
    int open = 0;

    // Costs a system call with every launch: on where host code is tested, not its kernels.
    bool protects = std::getenv("TEMPRA_EMULATION_PROTECT") != nullptr;
    void protect(int protection) {
        if (!protects) protection = PROT_READ | PROT_WRITE;
        if (!protects && protected_bytes >= used) return;
        protected_bytes = used;
        if (used != 0 && mprotect(base, used, protection) != 0) std::abort();
    }
    // The first gap that is large enough.
    bool place(std::size_t bytes, std::size_t& offset) {
        offset = 0;
        for (const auto& [at, held] : blocks) {
            if (at - offset >= bytes) return true;
            offset = at + held;
        }
        return offset + bytes <= kDeviceBytes;
    }
};

DeviceArena& arena() {
    static auto* const made = new DeviceArena;
    return *made;
}

std::size_t device_limit() {
    const char* const given = std::getenv("TEMPRA_EMULATED_BYTES");
    return given == nullptr ? kDeviceBytes : std::strtoull(given, nullptr, 10);
}

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

cudaError_t returned(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

bool is_on_device(const void* block) {
    const auto* const at = static_cast<const unsigned char*>(block);
    return at >= arena().base && at < arena().base + kDeviceBytes;
}

void open_device_memory() {
    DeviceArena& a = arena();
    const std::scoped_lock lock(a.mutex);
    if (a.open++ == 0) a.protect(PROT_READ | PROT_WRITE);
}

void close_device_memory() {
    DeviceArena& a = arena();
    const std::scoped_lock lock(a.mutex);
    if (--a.open == 0) a.protect(PROT_NONE);
}

}  // namespace tempra::cuda::emulation

using namespace tempra::cuda::emulation;

cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return returned(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"a device emulated on the CPU", 9, 0, 1};
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t) { return "refused by the emulated device"; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaMalloc(void** block, std::size_t bytes) {
    DeviceArena& a = arena();
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    {
        const std::scoped_lock lock(a.mutex);
        std::size_t offset = 0;
        if (a.bytes_in_use + rounded > device_limit() || !a.place(rounded, offset)) {
            return returned(cudaErrorMemoryAllocation);
        }
        a.blocks[offset] = rounded;
        a.bytes_in_use += rounded;
        const std::size_t end = (offset + rounded + kHugePage - 1) & ~(kHugePage - 1);
        if (end > a.used) a.used = end;
        if (a.open > 0) a.protect(PROT_READ | PROT_WRITE);
        *block = a.base + offset;
    }
    return cudaMemset(*block, 0xFF, bytes);
}
cudaError_t cudaFree(void* block) {
    DeviceArena& a = arena();
    const std::scoped_lock lock(a.mutex);
    const auto at =
        a.blocks.find(static_cast<std::size_t>(static_cast<unsigned char*>(block) - a.base));
    if (at == a.blocks.end()) return returned(cudaErrorInvalidValue);
    a.bytes_in_use -= at->second;
    a.blocks.erase(at);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** block, std::size_t bytes, unsigned) {
    *block = std::malloc(bytes);
    return returned(*block != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* block) {
    std::free(block);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    *total = device_limit();
    *free = *total - arena().bytes_in_use;
    return cudaSuccess;
}
cudaError_t cudaMemset(void* block, int value, std::size_t bytes) {
    const DeviceAccess access;
    std::memset(block, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* block, int value, std::size_t bytes, cudaStream_t stream) {
    perform(stream, [=] { static_cast<void>(cudaMemset(block, value, bytes)); });
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    const bool to_device = kind != cudaMemcpyDeviceToHost;
    const bool from_device = kind != cudaMemcpyHostToDevice;
    if (is_on_device(to) != to_device || is_on_device(from) != from_device) {
        return returned(cudaErrorInvalidValue);
    }
    perform(stream, [=] {
        const DeviceAccess access;
        std::memmove(to, from, bytes);
    });
    return cudaSuccess;
}
