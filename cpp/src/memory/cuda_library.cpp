#include "memory/cuda_library.h"

#include <cstdlib>

#include "platform/process.h"
#include "tempra/error.h"

namespace tempra {

namespace {

void check(const TempraCudaLibrary& library, TempraCudaStatus status) {
    if (status != TEMPRA_CUDA_OK) throw DeviceError(library.last_error());
}

CudaDevice describe_device(const TempraCudaLibrary& library, std::int32_t index) {
    TempraCudaDeviceInfo info{};
    info.size = sizeof(info);
    check(library, library.device_info(index, &info));
    info.name[sizeof(info.name) - 1] = '\0';
    return {info.name,        info.compute_major, info.compute_minor, info.multiprocessors,
            info.total_bytes, info.free_bytes,    info.usable != 0};
}

}  // namespace

void CudaLoader::load() {
    const char* const forced = std::getenv("TEMPRA_CUDA_LIBRARY");
    std::string reason;
    if (forced != nullptr && *forced != '\0') {
        TEMPRA_CHECK(DeviceError, file_.open(forced, reason),
                     "CUDA: TEMPRA_CUDA_LIBRARY is {}, which cannot be loaded: {}", forced, reason);
        return;
    }
    if (file_.open_loaded(kCudaLibraryName)) return;
    if (!given_path_.empty()) {
        TEMPRA_CHECK(DeviceError, file_.open(given_path_, reason), "CUDA: {} cannot be loaded: {}",
                     given_path_, reason);
        return;
    }
    TEMPRA_CHECK(DeviceError, file_.open(kCudaLibraryName, reason),
                 "CUDA: no {} was found; build it from the folder cuda and name it in "
                 "TEMPRA_CUDA_LIBRARY ({})",
                 kCudaLibraryName, reason);
}

void CudaLoader::check_interface() {
    void* const entry = file_.symbol(TEMPRA_CUDA_ENTRY_POINT);
    TEMPRA_CHECK(DeviceError, entry != nullptr,
                 "CUDA: {} is no CUDA library of tempra: it has no function {}", file_.path(),
                 TEMPRA_CUDA_ENTRY_POINT);
    char message[512] = "";
    const TempraCudaLibrary* opened = nullptr;
    TempraCudaHostServices services{};
    services.size = sizeof(services);
    const TempraCudaStatus status = reinterpret_cast<TempraCudaOpen>(entry)(
        TEMPRA_CUDA_ABI_VERSION, &services, &opened, message, sizeof(message));
    TEMPRA_CHECK(DeviceError, status == TEMPRA_CUDA_OK && opened != nullptr, "CUDA: {}: {}",
                 file_.path(), message);
    // The members up to the last one read here must be there; a later library may have more.
    TEMPRA_CHECK(DeviceError, opened->size >= static_cast<std::int64_t>(sizeof(TempraCudaLibrary)),
                 "CUDA: {}: its table of functions has {} bytes, {} are needed", file_.path(),
                 opened->size, sizeof(TempraCudaLibrary));
    library_ = opened;
    process_ = platform::process_id();
}

const TempraCudaLibrary& CudaLoader::library_locked() {
    if (library_ == nullptr) {
        load();
        check_interface();
    }
    TEMPRA_CHECK(DeviceError, process_ == platform::process_id(),
                 "CUDA cannot be used in a forked process: its driver does not survive fork(); "
                 "start processes with spawn, or fork before the first use of CUDA");
    return *library_;
}

const TempraCudaLibrary& CudaLoader::library() {
    const std::scoped_lock lock(mutex_);
    return library_locked();
}

void CudaLoader::check_device(int index) {
    const TempraCudaLibrary& found = library();
    const CudaDevice device = describe_device(found, index);
    TEMPRA_CHECK(DeviceError, device.usable,
                 "CUDA: {} has compute capability {}.{}; {} was built for {}", device.name,
                 device.compute_major, device.compute_minor, kCudaLibraryName, found.architectures);
}

CudaStatus CudaLoader::status() {
    CudaStatus status;
    try {
        const TempraCudaLibrary& found = library();
        status.library_path = file_.path();
        status.library_version = found.version;
        status.architectures = found.architectures;
        TempraCudaVersions versions{};
        versions.size = sizeof(versions);
        check(found, found.versions(&versions));
        status.driver_version = versions.driver;
        status.runtime_version = versions.runtime;
        std::int32_t count = 0;
        check(found, found.device_count(&count));
        for (std::int32_t index = 0; index < count; ++index) {
            status.devices.push_back(describe_device(found, index));
        }
        status.attention = found.attention_kernels();
    } catch (const DeviceError& error) {
        status.unavailable = error.what();
    }
    return status;
}

std::string CudaLoader::loaded_path() {
    const std::scoped_lock lock(mutex_);
    return library_ == nullptr ? std::string() : file_.path();
}

void CudaLoader::set_path(const std::string& path) {
    const std::scoped_lock lock(mutex_);
    TEMPRA_CHECK(DeviceError, library_ == nullptr || path == file_.path(),
                 "CUDA: {} given, but {} is already loaded", path, file_.path());
    given_path_ = path;
}

CudaStatus cuda_status() { return cuda_loader().status(); }
std::string cuda_library_path() { return cuda_loader().loaded_path(); }
void set_cuda_library_path(const std::string& path) { cuda_loader().set_path(path); }

void set_cuda_deterministic(bool deterministic) {
    const TempraCudaLibrary& library = cuda_loader().library();
    check(library, library.attention_choose(-1, deterministic ? 1 : 0));
}

CudaLoader& cuda_loader() {
    static auto* const loader = new CudaLoader;  // outlives static destructors, as the library does
    return *loader;
}

}  // namespace tempra
