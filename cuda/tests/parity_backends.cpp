#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "dispatch/select.h"
#include "parity_harness.h"

namespace tempra::cuda::parity {

namespace {

class CudaBackend final : public Backend {
  public:
    CudaBackend(const TempraCudaLibrary& library, void* stream, std::string name)
        : library_(library), stream_(stream), name_(std::move(name)) {}
    ~CudaBackend() override { library_.stream_destroy(stream_); }

    [[nodiscard]] const KernelTable& kernels() const override {
        return *static_cast<const KernelTable*>(library_.kernels);
    }
    [[nodiscard]] KernelContext context() const override { return {stream_}; }
    [[nodiscard]] std::string name() const override { return name_; }
    [[nodiscard]] std::string allocate(std::int64_t bytes, void** out) override {
        return said(library_.allocate(bytes, stream_, out));
    }
    void release(void* block) override { library_.release(block); }
    [[nodiscard]] std::string upload(void* to, const void* from, std::int64_t bytes) override {
        return said(library_.copy_to_device(to, from, bytes, stream_));
    }
    [[nodiscard]] std::string download(void* to, const void* from, std::int64_t bytes) override {
        return said(library_.copy_to_host(to, from, bytes, stream_));
    }
    [[nodiscard]] std::string synchronize() override {
        return said(library_.stream_synchronize(stream_));
    }
    [[nodiscard]] std::string last_error() const override { return library_.last_error(); }
    [[nodiscard]] bool choose_attention(bool cudnn) override {
        library_.attention_choose(cudnn ? 1 : 0, -1);
        return !cudnn || attention_kernels().rfind("our own", 0) != 0;
    }
    [[nodiscard]] std::string attention_kernels() const override {
        return library_.attention_kernels();
    }

  private:
    [[nodiscard]] std::string said(TempraCudaStatus status) const {
        return status == TEMPRA_CUDA_OK ? "" : library_.last_error();
    }

    const TempraCudaLibrary& library_;
    void* stream_;
    std::string name_;
};

class RehearsalBackend final : public Backend {
  public:
    explicit RehearsalBackend(bool broken) : broken_(broken) {}

    [[nodiscard]] const KernelTable& kernels() const override {
        return cpu_kernel_table(cpu::Isa::baseline);
    }
    [[nodiscard]] KernelContext context() const override { return {}; }
    [[nodiscard]] std::string name() const override {
        return broken_ ? "rehearsal with wrong results" : "rehearsal on the CPU";
    }
    [[nodiscard]] std::string allocate(std::int64_t bytes, void** out) override {
        *out = std::aligned_alloc(512, static_cast<std::size_t>((bytes + 511) / 512 * 512 + 512));
        return *out == nullptr ? "out of memory" : "";
    }
    void release(void* block) override { std::free(block); }
    [[nodiscard]] std::string upload(void* to, const void* from, std::int64_t bytes) override {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
        return "";
    }
    // Broken: a bit of the last byte that counts (sign or exponent in every dtype) is off.
    [[nodiscard]] std::string download(void* to, const void* from, std::int64_t bytes) override {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
        if (broken_ && bytes > 0) static_cast<unsigned char*>(to)[bytes - 1] ^= 0x40U;
        return "";
    }
    [[nodiscard]] std::string synchronize() override { return ""; }
    [[nodiscard]] std::string last_error() const override { return ""; }
    [[nodiscard]] bool choose_attention(bool cudnn) override { return !cudnn; }
    [[nodiscard]] std::string attention_kernels() const override { return "the CPU's"; }

  private:
    bool broken_;
};

}  // namespace

std::unique_ptr<Backend> cuda_backend(const std::string& path, std::string& reason) {
    void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* const entry = handle == nullptr ? nullptr : dlsym(handle, TEMPRA_CUDA_ENTRY_POINT);
    if (entry == nullptr) {
        reason = dlerror();
        return nullptr;
    }
    const TempraCudaLibrary* library = nullptr;
    char message[512] = "";
    if (reinterpret_cast<TempraCudaOpen>(entry)(TEMPRA_CUDA_ABI_VERSION, nullptr, &library, message,
                                                sizeof(message)) != TEMPRA_CUDA_OK) {
        reason = message;
        return nullptr;
    }
    TempraCudaDeviceInfo info{};
    info.size = sizeof(info);
    void* stream = nullptr;
    if (library->device_info(0, &info) != TEMPRA_CUDA_OK ||
        library->set_device(0) != TEMPRA_CUDA_OK ||
        library->stream_create(&stream) != TEMPRA_CUDA_OK) {
        reason = library->last_error();
        return nullptr;
    }
    return std::make_unique<CudaBackend>(*library, stream, info.name);
}

std::unique_ptr<Backend> rehearsal_backend(bool broken) {
    return std::make_unique<RehearsalBackend>(broken);
}

}  // namespace tempra::cuda::parity
