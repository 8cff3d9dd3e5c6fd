// The built library through its entry point, as a host loads it. What needs a GPU says that it is
// skipped; what a machine without one must answer is tested there.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {
namespace {

class Library : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        handle = dlopen(TEMPRA_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(handle, nullptr) << dlerror();
        open = reinterpret_cast<TempraCudaOpen>(dlsym(handle, TEMPRA_CUDA_ENTRY_POINT));
        ASSERT_NE(open, nullptr) << dlerror();
    }
    void SetUp() override {
        ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, nullptr, &library, nullptr, 0), TEMPRA_CUDA_OK);
        ASSERT_NE(library, nullptr);
        std::int32_t count = 0;
        has_device = library->device_count(&count) == TEMPRA_CUDA_OK;
    }

    static inline void* handle = nullptr;
    static inline TempraCudaOpen open = nullptr;
    const TempraCudaLibrary* library = nullptr;
    bool has_device = false;
};

TEST_F(Library, ExportsTheEntryPointAlone) {
    for (const char* name : {"tempra_cuda_close", "cudaMalloc", "_ZN6tempra4cuda10last_errorEv"}) {
        // dlsym would also look in the library's dependencies, which have none of these.
        EXPECT_EQ(dlsym(handle, name), nullptr) << name;
    }
}

TEST_F(Library, TellsWhatItIs) {
    EXPECT_EQ(library->abi_version, TEMPRA_CUDA_ABI_VERSION);
    EXPECT_EQ(library->size, static_cast<std::int64_t>(sizeof(TempraCudaLibrary)));
    EXPECT_STRNE(library->architectures, "");
    TempraCudaVersions versions{};
    EXPECT_EQ(library->versions(&versions), TEMPRA_CUDA_BAD_ARGUMENT) << "without its size";
    versions.size = sizeof(versions);
    EXPECT_EQ(library->versions(&versions), TEMPRA_CUDA_OK);
    EXPECT_GE(versions.runtime, 12080);
}

TEST_F(Library, RefusesAnotherInterfaceVersionInOneLine) {
    char message[200] = "";
    const TempraCudaLibrary* other = library;
    EXPECT_EQ(open(TEMPRA_CUDA_ABI_VERSION + 1, nullptr, &other, message, sizeof(message)),
              TEMPRA_CUDA_WRONG_ABI_VERSION);
    EXPECT_EQ(other, nullptr);
    const std::string said =
        "the host speaks version " + std::to_string(TEMPRA_CUDA_ABI_VERSION + 1);
    EXPECT_NE(std::string(message).find(said), std::string::npos) << message;
    EXPECT_EQ(std::string(message).find('\n'), std::string::npos);
    char cut[10];
    EXPECT_EQ(open(0, nullptr, &other, cut, sizeof(cut)), TEMPRA_CUDA_WRONG_ABI_VERSION);
    EXPECT_EQ(std::string(cut), "the host ");
    EXPECT_EQ(open(TEMPRA_CUDA_ABI_VERSION, nullptr, nullptr, nullptr, 0),
              TEMPRA_CUDA_BAD_ARGUMENT);
}

TEST_F(Library, TellsTheHostOfErrors) {
    std::vector<std::string> lines;
    TempraCudaHostServices services{};
    services.size = sizeof(services);
    services.user = &lines;
    services.error = [](void* user, TempraCudaStatus, const char* message) {
        static_cast<std::vector<std::string>*>(user)->emplace_back(message);
    };
    ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, &services, &library, nullptr, 0), TEMPRA_CUDA_OK);
    void* block = nullptr;
    EXPECT_NE(library->allocate(16, nullptr, &block), TEMPRA_CUDA_OK);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0], library->last_error());
    // A host built before `error` existed says so by its size.
    services.size = offsetof(TempraCudaHostServices, error);
    ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, &services, &library, nullptr, 0), TEMPRA_CUDA_OK);
    EXPECT_NE(library->allocate(16, nullptr, &block), TEMPRA_CUDA_OK);
    EXPECT_EQ(lines.size(), 1U);
    ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, nullptr, &library, nullptr, 0), TEMPRA_CUDA_OK);
}

TEST_F(Library, SaysWhyThereIsNoDevice) {
    if (has_device) GTEST_SKIP() << "this machine has a CUDA device";
    std::int32_t count = 0;
    const TempraCudaStatus status = library->device_count(&count);
    EXPECT_TRUE(status == TEMPRA_CUDA_NO_DRIVER || status == TEMPRA_CUDA_NO_DEVICE ||
                status == TEMPRA_CUDA_DRIVER_TOO_OLD);
    EXPECT_EQ(std::string(library->last_error()).rfind("CUDA: ", 0), 0U) << library->last_error();
    TempraCudaDeviceInfo info{};
    info.size = sizeof(info);
    EXPECT_EQ(library->device_info(0, &info), status);
    EXPECT_EQ(library->set_device(0), status);
    void* block = nullptr;
    EXPECT_NE(library->allocate(1024, &block, &block), TEMPRA_CUDA_OK);
    EXPECT_EQ(block, nullptr);
}

TEST_F(Library, DescribesItsDevices) {
    if (!has_device) GTEST_SKIP() << "needs a CUDA device: " << library->last_error();
    std::int32_t count = 0;
    ASSERT_EQ(library->device_count(&count), TEMPRA_CUDA_OK);
    for (std::int32_t device = 0; device < count; ++device) {
        TempraCudaDeviceInfo info{};
        info.size = sizeof(info);
        ASSERT_EQ(library->device_info(device, &info), TEMPRA_CUDA_OK) << library->last_error();
        EXPECT_STRNE(info.name, "");
        EXPECT_GT(info.total_bytes, info.free_bytes - 1);
    }
    EXPECT_EQ(library->set_device(count), TEMPRA_CUDA_BAD_DEVICE_INDEX);
    EXPECT_EQ(library->set_device(-1), TEMPRA_CUDA_BAD_DEVICE_INDEX);
}

TEST_F(Library, ServesMemoryInTheOrderOfAStream) {
    if (!has_device) GTEST_SKIP() << "needs a CUDA device: " << library->last_error();
    ASSERT_EQ(library->set_device(0), TEMPRA_CUDA_OK) << library->last_error();
    void* stream = nullptr;
    ASSERT_EQ(library->stream_create(&stream), TEMPRA_CUDA_OK);
    void *first = nullptr, *second = nullptr;
    ASSERT_EQ(library->allocate(8 << 20, stream, &first), TEMPRA_CUDA_OK);
    ASSERT_EQ(library->release(first), TEMPRA_CUDA_OK);
    ASSERT_EQ(library->allocate(8 << 20, stream, &second), TEMPRA_CUDA_OK);
    EXPECT_EQ(first, second);
    const std::vector<int> sent = {1, 2, 3};
    std::vector<int> received(3);
    ASSERT_EQ(library->copy_to_device(second, sent.data(), 12, stream), TEMPRA_CUDA_OK);
    ASSERT_EQ(library->copy_to_host(received.data(), second, 12, stream), TEMPRA_CUDA_OK);
    ASSERT_EQ(library->stream_synchronize(stream), TEMPRA_CUDA_OK);
    EXPECT_EQ(sent, received);
    EXPECT_EQ(library->release(second), TEMPRA_CUDA_OK);
    EXPECT_EQ(library->stream_destroy(stream), TEMPRA_CUDA_OK);
}

// Bad calls are refused on the host, before anything reaches a device.
TEST_F(Library, KernelsRefuseWhatTheyCannotDo) {
    const auto& kernels = *static_cast<const KernelTable*>(library->kernels);
    ASSERT_EQ(kernels.size, static_cast<std::int64_t>(sizeof(KernelTable)));
    alignas(16) float data[4] = {};
    TensorView v;
    v.data = data;
    v.dimensions = 1;
    v.sizes[0] = 4;
    v.strides[0] = 1;
    const KernelContext no_stream;
    EXPECT_EQ(kernels.fill(no_stream, v, 1.0), kKernelFailed);
    EXPECT_STREQ(library->last_error(), "fill: no stream given");
    EXPECT_EQ(kernels.unary(no_stream, UnaryOp::exp, v, v), kKernelFailed);
    TensorView other = v;
    other.dtype = DType::f16;
    EXPECT_EQ(kernels.unary(no_stream, UnaryOp::exp, other, other), kKernelUnsupportedDtype);
    EXPECT_EQ(kernels.binary(no_stream, BinaryOp::add, v, other, v), kKernelUnsupportedDtype);
    EXPECT_EQ(kernels.binary(no_stream, BinaryOp::equal, v, v, v), kKernelUnsupportedDtype);
    EXPECT_EQ(kernels.unary_backward(no_stream, UnaryOp::is_nan, v, v, v, v), kKernelFailed);
}

}  // namespace
}  // namespace tempra::cuda
