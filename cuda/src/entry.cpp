// The entry point and the functions of the library's table.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "attention_choice.h"
#include "device_fault.h"
#include "devices.h"
#include "error_message.h"
#include "graph_capture.h"
#include "kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {

namespace {

TempraCudaStatus check(const char* call, cudaError_t error) noexcept {
    return error == cudaSuccess ? TEMPRA_CUDA_OK : fail_with_cuda_error(call, error);
}

// The reason is kept for `last_error` by current_device().
constexpr TempraCudaStatus kNoDeviceState = TEMPRA_CUDA_FAILED;

TempraCudaStatus stream_create(void** stream) noexcept {
    cudaStream_t created = nullptr;
    const cudaError_t error = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
    *stream = created;
    return check("cudaStreamCreateWithFlags", error);
}

// Waits: the allocator knows streams by their handle, which the driver may give out again.
TempraCudaStatus stream_destroy(void* stream) noexcept {
    if (is_captured(stream)) return refuse_captured("stream_destroy");
    const cudaError_t error = cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) return fail_with_cuda_error("cudaStreamSynchronize", error);
    return check("cudaStreamDestroy", cudaStreamDestroy(static_cast<cudaStream_t>(stream)));
}

TempraCudaStatus stream_synchronize(void* stream) noexcept {
    if (is_captured(stream)) return refuse_captured("stream_synchronize");
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    const auto on = static_cast<cudaStream_t>(stream);
    std::int32_t fault = kNoFault;
    cudaError_t error =
        cudaMemcpyAsync(&fault, device->fault, sizeof(fault), cudaMemcpyDeviceToHost, on);
    if (error == cudaSuccess) error = cudaStreamSynchronize(on);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaStreamSynchronize", error);
    if (fault == kNoFault) return TEMPRA_CUDA_OK;
    error = cudaMemsetAsync(device->fault, 0, sizeof(fault), on);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaMemsetAsync", error);
    return fail(is_index_fault(fault) ? TEMPRA_CUDA_INDEX_OUT_OF_RANGE : TEMPRA_CUDA_FAILED,
                describe(fault));
}

TempraCudaStatus allocate(std::int64_t bytes, void* stream, void** out) noexcept {
    *out = nullptr;
    if (stream == nullptr) return fail(TEMPRA_CUDA_BAD_ARGUMENT, "allocate: no stream given");
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    try {
        std::string message;
        *out = device->allocator->allocate(bytes, stream, message);
        return *out != nullptr ? TEMPRA_CUDA_OK : fail(TEMPRA_CUDA_OUT_OF_MEMORY, message);
    } catch (const std::exception& error) {
        return fail(TEMPRA_CUDA_OUT_OF_MEMORY, std::string("allocate: ") + error.what());
    }
}

TempraCudaStatus release(void* block) noexcept {
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    try {
        if (device->allocator->release(block)) return TEMPRA_CUDA_OK;
        return fail(TEMPRA_CUDA_BAD_ARGUMENT,
                    "release: the pointer was not allocated on the current device");
    } catch (const std::exception& error) {
        return fail(TEMPRA_CUDA_FAILED, std::string("release: ") + error.what());
    }
}

TempraCudaStatus record_use(void* block, void* stream) noexcept {
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    try {
        if (device->allocator->record_use(block, stream)) return TEMPRA_CUDA_OK;
        return fail(TEMPRA_CUDA_BAD_ARGUMENT,
                    "record_use: the pointer was not allocated on the current device");
    } catch (const std::exception& error) {
        return fail(TEMPRA_CUDA_FAILED, std::string("record_use: ") + error.what());
    }
}

TempraCudaStatus memory(TempraCudaMemory* out) noexcept {
    if (out == nullptr || out->size < static_cast<std::int64_t>(sizeof(*out))) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, "memory: size is not set");
    }
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    const AllocatorStatistics now = device->allocator->statistics();
    out->bytes_requested = now.bytes_requested;
    out->bytes_in_use = now.bytes_in_use;
    out->peak_bytes_in_use = now.peak_bytes_in_use;
    out->bytes_reserved = now.bytes_reserved;
    out->peak_bytes_reserved = now.peak_bytes_reserved;
    out->bytes_pending = now.bytes_pending;
    out->largest_free_block = now.largest_free_block;
    out->allocations = now.allocations;
    out->driver_allocations = now.driver_allocations;
    out->fragmentation = now.fragmentation();
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus reset_peak_memory() noexcept {
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    device->allocator->reset_peak();
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus release_cached_memory() noexcept {
    DeviceState* const device = current_device();
    if (device == nullptr) return kNoDeviceState;
    if (has_captured_stream(*device)) return refuse_captured("release_cached_memory");
    device->allocator->trim();
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus allocate_pinned(std::int64_t bytes, void** out) noexcept {
    *out = nullptr;
    if (bytes < 0) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT,
                    "allocate_pinned: " + std::to_string(bytes) + " bytes asked for");
    }
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    return check("cudaHostAlloc", cudaHostAlloc(out, wanted, cudaHostAllocDefault));
}

TempraCudaStatus release_pinned(void* block) noexcept {
    return check("cudaFreeHost", cudaFreeHost(block));
}

TempraCudaStatus copy_bytes(const char* name, void* to, const void* from, std::int64_t bytes,
                            void* stream, cudaMemcpyKind kind) noexcept {
    if (bytes < 0 || stream == nullptr) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT,
                    std::string(name) + (bytes < 0 ? ": a negative size" : ": no stream given"));
    }
    // Recorded, it would use the host's memory with every launch.
    if (kind != cudaMemcpyDeviceToDevice && is_captured(stream)) return refuse_captured(name);
    return check(name, cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind,
                                       static_cast<cudaStream_t>(stream)));
}

TempraCudaStatus copy_to_device(void* to, const void* from, std::int64_t bytes,
                                void* stream) noexcept {
    return copy_bytes("copy_to_device", to, from, bytes, stream, cudaMemcpyHostToDevice);
}
TempraCudaStatus copy_to_host(void* to, const void* from, std::int64_t bytes,
                              void* stream) noexcept {
    return copy_bytes("copy_to_host", to, from, bytes, stream, cudaMemcpyDeviceToHost);
}
TempraCudaStatus copy_on_device(void* to, const void* from, std::int64_t bytes,
                                void* stream) noexcept {
    return copy_bytes("copy_on_device", to, from, bytes, stream, cudaMemcpyDeviceToDevice);
}

TempraCudaStatus event_create(void** event) noexcept {
    cudaEvent_t created = nullptr;
    const cudaError_t error = cudaEventCreateWithFlags(&created, cudaEventDisableTiming);
    *event = created;
    return check("cudaEventCreateWithFlags", error);
}
TempraCudaStatus event_destroy(void* event) noexcept {
    return check("cudaEventDestroy", cudaEventDestroy(static_cast<cudaEvent_t>(event)));
}
TempraCudaStatus event_record(void* event, void* stream) noexcept {
    if (is_captured(stream)) return refuse_captured("event_record");
    return check("cudaEventRecord", cudaEventRecord(static_cast<cudaEvent_t>(event),
                                                    static_cast<cudaStream_t>(stream)));
}
TempraCudaStatus event_is_complete(void* event, std::int32_t* complete) noexcept {
    const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event));
    *complete = error == cudaSuccess ? 1 : 0;
    if (error != cudaErrorNotReady) return check("cudaEventQuery", error);
    static_cast<void>(cudaGetLastError());  // an answer, not a failure
    return TEMPRA_CUDA_OK;
}
TempraCudaStatus event_synchronize(void* event) noexcept {
    return check("cudaEventSynchronize", cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
}
TempraCudaStatus stream_wait(void* stream, void* event) noexcept {
    if (is_captured(stream)) return refuse_captured("stream_wait");
    return check("cudaStreamWaitEvent", cudaStreamWaitEvent(static_cast<cudaStream_t>(stream),
                                                            static_cast<cudaEvent_t>(event), 0));
}

const TempraCudaLibrary& library_table() {
    static const TempraCudaLibrary table = [] {
        TempraCudaLibrary t{};
        t.size = sizeof(t);
        t.abi_version = TEMPRA_CUDA_ABI_VERSION;
        t.version = TEMPRA_CUDA_LIBRARY_VERSION;
        t.architectures = TEMPRA_CUDA_ARCHITECTURE_LIST;
        t.kernels = &kernel_table();
        t.last_error = last_error;
        t.versions = versions;
        t.device_count = device_count;
        t.device_info = device_info;
        t.set_device = set_device;
        t.stream_create = stream_create;
        t.stream_destroy = stream_destroy;
        t.stream_synchronize = stream_synchronize;
        t.allocate = allocate;
        t.release = release;
        t.record_use = record_use;
        t.memory = memory;
        t.reset_peak_memory = reset_peak_memory;
        t.release_cached_memory = release_cached_memory;
        t.allocate_pinned = allocate_pinned;
        t.release_pinned = release_pinned;
        t.copy_to_device = copy_to_device;
        t.copy_to_host = copy_to_host;
        t.copy_on_device = copy_on_device;
        t.event_create = event_create;
        t.event_destroy = event_destroy;
        t.event_record = event_record;
        t.event_is_complete = event_is_complete;
        t.event_synchronize = event_synchronize;
        t.stream_wait = stream_wait;
        t.capture_begin = capture_begin;
        t.capture_end = capture_end;
        t.graph_launch = graph_launch;
        t.graph_destroy = graph_destroy;
        t.attention_choose = attention_choose;
        t.attention_kernels = attention_kernels;
        return t;
    }();
    return table;
}

}  // namespace

}  // namespace tempra::cuda

extern "C" TempraCudaStatus tempra_cuda_open(std::int32_t abi_version,
                                             const TempraCudaHostServices* services,
                                             const TempraCudaLibrary** library, char* message,
                                             std::int64_t message_bytes) {
    using namespace tempra::cuda;
    const auto refuse = [&](TempraCudaStatus status, const std::string& reason) {
        if (message != nullptr && message_bytes > 0) {
            const auto room = static_cast<std::size_t>(message_bytes - 1);
            const std::size_t length = std::min(room, reason.size());
            std::memcpy(message, reason.data(), length);
            message[length] = '\0';
        }
        return fail(status, reason);
    };
    try {
        if (library == nullptr) {
            return refuse(TEMPRA_CUDA_BAD_ARGUMENT, "tempra_cuda_open: no place for the table");
        }
        *library = nullptr;
        if (abi_version != TEMPRA_CUDA_ABI_VERSION) {
            return refuse(TEMPRA_CUDA_WRONG_ABI_VERSION,
                          "the host speaks version " + std::to_string(abi_version) +
                              " of the CUDA library's interface, libtempra_cuda.so " +
                              TEMPRA_CUDA_LIBRARY_VERSION + " speaks version " +
                              std::to_string(TEMPRA_CUDA_ABI_VERSION) +
                              "; install matching versions of tempra and tempra-cuda13");
        }
        TempraCudaHostServices host{};
        if (services != nullptr) {
            const auto given = static_cast<std::size_t>(std::max<std::int64_t>(services->size, 0));
            std::memcpy(&host, services, std::min(given, sizeof(host)));
            host.size = sizeof(host);
        }
        set_host_services(host);
        *library = &library_table();
        return TEMPRA_CUDA_OK;
    } catch (const std::exception& error) {
        return refuse(TEMPRA_CUDA_FAILED, error.what());
    } catch (...) {
        return refuse(TEMPRA_CUDA_FAILED, "tempra_cuda_open failed");
    }
}
