#include "devices.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "device_fault.h"
#include "error_message.h"

namespace tempra::cuda {

namespace {

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// "80;86;90a": does one of these run on a device of this compute capability? Code for x.y runs on
// x.z with z >= y; that of an "a" architecture on x.y alone.
bool has_code_for(int major, int minor) {
    std::string list = TEMPRA_CUDA_ARCHITECTURE_LIST;
    std::replace(list.begin(), list.end(), ',', ';');
    for (std::size_t begin = 0; begin < list.size();) {
        const std::size_t end = std::min(list.find(';', begin), list.size());
        const std::string name = list.substr(begin, end - begin);
        begin = end + 1;
        if (name.empty()) continue;
        const int number = std::atoi(name.c_str());
        const bool specific = name.find('a') != std::string::npos;
        if (number / 10 != major) continue;
        if (specific ? number % 10 == minor : number % 10 <= minor) return true;
    }
    return false;
}

class DriverMemory final : public DeviceMemory {
  public:
    explicit DriverMemory(std::int32_t device) : device_(device) {}

    void* acquire(std::int64_t bytes) noexcept override {
        void* data = nullptr;
        if (!succeeded(cudaMalloc(&data, static_cast<std::size_t>(bytes)))) return nullptr;
        changed(bytes);
        return data;
    }
    void give_back(void* block, std::int64_t bytes) noexcept override {
        static_cast<void>(succeeded(cudaFree(block)));  // at exit the driver may be gone
        changed(-bytes);
    }
    std::int64_t free_bytes() noexcept override { return memory_info().first; }
    std::int64_t total_bytes() noexcept override { return memory_info().second; }

    EventHandle record_event(StreamHandle stream) noexcept override {
        cudaEvent_t event = nullptr;
        if (!succeeded(cudaEventCreateWithFlags(&event, cudaEventDisableTiming))) return nullptr;
        if (succeeded(cudaEventRecord(event, static_cast<cudaStream_t>(stream)))) return event;
        destroy_event(event);
        return nullptr;
    }
    bool is_complete(EventHandle event) noexcept override {
        return succeeded(cudaEventQuery(static_cast<cudaEvent_t>(event)));
    }
    void wait_for(EventHandle event) noexcept override {
        static_cast<void>(succeeded(cudaEventSynchronize(static_cast<cudaEvent_t>(event))));
    }
    void destroy_event(EventHandle event) noexcept override {
        static_cast<void>(succeeded(cudaEventDestroy(static_cast<cudaEvent_t>(event))));
    }

  private:
    // A failure is answered where it is met: kept by the runtime, the next launch would be blamed.
    static bool succeeded(cudaError_t error) {
        if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
        return error == cudaSuccess;
    }
    static std::pair<std::int64_t, std::int64_t> memory_info() {
        std::size_t free = 0, total = 0;
        if (!succeeded(cudaMemGetInfo(&free, &total))) return {0, 0};
        return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
    }
    void changed(std::int64_t bytes) noexcept {
        reserved_ += bytes;
        const TempraCudaHostServices host = host_services();
        if (host.memory_changed != nullptr) {
            host.memory_changed(host.user, device_, bytes, reserved_);
        }
    }

    std::int32_t device_;
    std::int64_t reserved_ = 0;  // guarded by the allocator's lock
};

TempraCudaStatus fail_without_device(cudaError_t error) {
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    if (driver == 0) {
        return fail(TEMPRA_CUDA_NO_DRIVER,
                    "CUDA: no NVIDIA driver is loaded on this machine (libcuda.so.1)");
    }
    if (error == cudaErrorInsufficientDriver) {
        return fail(TEMPRA_CUDA_DRIVER_TOO_OLD,
                    "CUDA: the driver runs CUDA " + version_text(driver) + ", this library needs " +
                        version_text(CUDART_VERSION) + "; install a newer driver");
    }
    if (error == cudaErrorNoDevice) {
        return fail(TEMPRA_CUDA_NO_DEVICE, "CUDA: the driver sees no device");
    }
    return fail_with_cuda_error("cudaGetDeviceCount", error);
}

TempraCudaStatus check_index(std::int32_t device) {
    std::int32_t count = 0;
    const TempraCudaStatus status = device_count(&count);
    if (status != TEMPRA_CUDA_OK) return status;
    if (device >= 0 && device < count) return TEMPRA_CUDA_OK;
    return fail(TEMPRA_CUDA_BAD_DEVICE_INDEX, "CUDA: device " + std::to_string(device) +
                                                  " does not exist; this machine has " +
                                                  std::to_string(count) + ", numbered from 0");
}

TempraCudaStatus make_state(std::int32_t device, DeviceState& state) {
    cudaDeviceProp properties{};
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaGetDeviceProperties", error);
    if (!has_code_for(properties.major, properties.minor)) {
        return fail(TEMPRA_CUDA_NO_CODE_FOR_DEVICE,
                    std::string("CUDA: ") + properties.name + " has compute capability " +
                        std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                        "; this library was built for " TEMPRA_CUDA_ARCHITECTURE_LIST);
    }
    error = cudaMalloc(reinterpret_cast<void**>(&state.fault), sizeof(*state.fault));
    if (error == cudaSuccess) error = cudaMemset(state.fault, 0, sizeof(*state.fault));
    if (error == cudaSuccess) error = cudaDeviceSynchronize();  // our streams do not wait for it
    if (error != cudaSuccess) return fail_with_cuda_error("cudaMalloc", error);
    state.index = device;
    state.memory = std::make_unique<DriverMemory>(device);
    state.allocator = std::make_unique<CachingAllocator>(*state.memory);
    return TEMPRA_CUDA_OK;
}

}  // namespace

TempraCudaStatus versions(TempraCudaVersions* out) noexcept {
    if (out == nullptr || out->size < static_cast<std::int64_t>(sizeof(*out))) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, "versions: size is not set");
    }
    out->driver = 0;
    static_cast<void>(cudaDriverGetVersion(&out->driver));
    out->runtime = CUDART_VERSION;
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus device_count(std::int32_t* out) noexcept {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return fail_without_device(error);
    }
    if (count == 0) return fail_without_device(cudaErrorNoDevice);
    *out = count;
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus device_info(std::int32_t device, TempraCudaDeviceInfo* out) noexcept {
    if (out == nullptr || out->size < static_cast<std::int64_t>(sizeof(*out))) {
        return fail(TEMPRA_CUDA_BAD_ARGUMENT, "device_info: size is not set");
    }
    const TempraCudaStatus status = check_index(device);
    if (status != TEMPRA_CUDA_OK) return status;
    cudaDeviceProp properties{};
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaGetDeviceProperties", error);
    std::strncpy(out->name, properties.name, sizeof(out->name) - 1);
    out->name[sizeof(out->name) - 1] = '\0';
    out->compute_major = properties.major;
    out->compute_minor = properties.minor;
    out->multiprocessors = properties.multiProcessorCount;
    out->usable = has_code_for(properties.major, properties.minor) ? 1 : 0;
    int current = 0;
    error = cudaGetDevice(&current);
    if (error == cudaSuccess) error = cudaSetDevice(device);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaSetDevice", error);
    std::size_t free = 0, total = 0;
    error = cudaMemGetInfo(&free, &total);
    static_cast<void>(cudaSetDevice(current));
    if (error != cudaSuccess) return fail_with_cuda_error("cudaMemGetInfo", error);
    out->free_bytes = static_cast<std::int64_t>(free);
    out->total_bytes = static_cast<std::int64_t>(total);
    return TEMPRA_CUDA_OK;
}

TempraCudaStatus set_device(std::int32_t device) noexcept {
    const TempraCudaStatus status = check_index(device);
    if (status != TEMPRA_CUDA_OK) return status;
    const cudaError_t error = cudaSetDevice(device);
    if (error != cudaSuccess) return fail_with_cuda_error("cudaSetDevice", error);
    return current_device() != nullptr ? TEMPRA_CUDA_OK : TEMPRA_CUDA_NO_CODE_FOR_DEVICE;
}

DeviceState* current_device() noexcept try {
    static std::mutex mutex;
    static auto* const states = new std::vector<std::unique_ptr<DeviceState>>;
    int device = 0;
    const cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) {
        fail_with_cuda_error("cudaGetDevice", error);
        return nullptr;
    }
    const std::scoped_lock lock(mutex);
    const auto place = static_cast<std::size_t>(device);
    if (states->size() <= place) states->resize(place + 1);
    std::unique_ptr<DeviceState>& state = (*states)[place];
    if (state == nullptr) {
        auto made = std::make_unique<DeviceState>();
        if (make_state(device, *made) != TEMPRA_CUDA_OK) return nullptr;
        state = std::move(made);
    }
    return state.get();
} catch (const std::exception& error) {
    fail(TEMPRA_CUDA_FAILED, error.what());
    return nullptr;
}

Scratch::Scratch(std::int64_t bytes, void* stream) noexcept : device_(current_device()) {
    if (device_ == nullptr) return;
    try {
        std::string message;
        block_ = device_->allocator->allocate(bytes, stream, message);
        if (block_ == nullptr) fail(TEMPRA_CUDA_OUT_OF_MEMORY, message);
    } catch (const std::exception& error) {
        fail(TEMPRA_CUDA_OUT_OF_MEMORY, error.what());
    }
}

Scratch::~Scratch() {
    if (block_ == nullptr) return;
    try {
        static_cast<void>(device_->allocator->release(block_));
    } catch (const std::exception& error) {  // no host memory to remember it: it stays in use
        fail(TEMPRA_CUDA_FAILED, error.what());
    }
}

}  // namespace tempra::cuda
