// The loader of the CUDA library against libraries that are not it, one defect each.
#include "memory/cuda_library.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "dispatch/cuda_kernels.h"
#include "tempra/error.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"
#include "tempra/ops/softmax.h"
#include "tempra/runtime.h"

namespace tempra {
namespace {

std::string fake(const std::string& kind) { return std::string(FAKE_CUDA_FOLDER) + "/" + kind; }

std::string reason_of(CudaLoader& loader) {
    try {
        static_cast<void>(loader.library());
    } catch (const DeviceError& error) {
        return error.what();
    }
    return "";
}

void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << text << "' lacks '" << part << "'";
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
}

class CudaLibrary : public testing::Test {
  protected:
    void SetUp() override { unsetenv("TEMPRA_CUDA_LIBRARY"); }
    void TearDown() override { unsetenv("TEMPRA_CUDA_LIBRARY"); }
    CudaLoader loader;
};

TEST_F(CudaLibrary, DescribesLibraryDriverAndDevices) {
    loader.set_path(fake("libfake_good.so"));
    const CudaStatus status = loader.status();
    EXPECT_EQ(status.unavailable, "");
    EXPECT_EQ(status.library_path, fake("libfake_good.so"));
    EXPECT_EQ(status.library_version, "fake");
    EXPECT_EQ(status.architectures, "90a");
    EXPECT_EQ(status.driver_version, 13000);
    EXPECT_EQ(status.attention, "the fake's kernels");
    ASSERT_EQ(status.devices.size(), 2U);
    EXPECT_EQ(status.devices[0].name, "Fake 0");
    EXPECT_EQ(status.devices[1].compute_major, 8);
    EXPECT_TRUE(status.devices[0].usable);
    EXPECT_FALSE(status.devices[1].usable);
    EXPECT_EQ(status.devices[0].free_bytes, 1000);
}

TEST_F(CudaLibrary, TheEnvironmentsLibraryWins) {
    setenv("TEMPRA_CUDA_LIBRARY", fake("libfake_good.so").c_str(), 1);
    loader.set_path(fake("libfake_without_entry.so"));
    EXPECT_EQ(loader.status().library_path, fake("libfake_good.so"));
    setenv("TEMPRA_CUDA_LIBRARY", "/nowhere/libtempra_cuda.so", 1);
    CudaLoader other;
    other.set_path(fake("libfake_good.so"));
    expect_contains(reason_of(other), "TEMPRA_CUDA_LIBRARY is /nowhere/libtempra_cuda.so, which");
}

TEST_F(CudaLibrary, NoLibraryIsAReason) {
    const std::string reason = reason_of(loader);
    expect_contains(reason, "CUDA: no libtempra_cuda.so was found; build it");
    EXPECT_EQ(loader.status().unavailable, reason);
    EXPECT_EQ(loader.status().library_path, "");
    loader.set_path("/nowhere/else.so");
    expect_contains(reason_of(loader), "/nowhere/else.so cannot be loaded");
}

TEST_F(CudaLibrary, AFileThatIsNoLibrary) {
    loader.set_path(FAKE_CUDA_TEXT_FILE);
    expect_contains(reason_of(loader), "cannot be loaded");
}

TEST_F(CudaLibrary, AnotherLibraryIsRefused) {
    loader.set_path(fake("libfake_without_entry.so"));
    expect_contains(reason_of(loader), "it has no function tempra_cuda_open");
}

TEST_F(CudaLibrary, AnotherInterfaceVersionIsRefused) {
    loader.set_path(fake("libfake_of_another_version.so"));
    expect_contains(reason_of(loader), "libfake_of_another_version.so: speaks another version");
    loader.set_path(fake("libfake_good.so"));  // and is not in the way of another
    EXPECT_EQ(reason_of(loader), "");
    EXPECT_THROW(loader.set_path("/nowhere/else.so"), DeviceError);
}

TEST_F(CudaLibrary, AShortTableOfFunctionsIsRefused) {
    loader.set_path(fake("libfake_with_short_table.so"));
    expect_contains(reason_of(loader), "its table of functions has 16 bytes");
}

TEST_F(CudaLibrary, KernelsALibraryDoesNotHaveAreNull) {
    loader.set_path(fake("libfake_good.so"));
    const KernelTable kernels = kernels_of(loader.library());
    EXPECT_NE(kernels.fill, nullptr);
    EXPECT_NE(kernels.adamw, nullptr);
    EXPECT_EQ(kernels.gemm, nullptr);
    CudaLoader other;
    other.set_path(fake("libfake_with_older_kernels.so"));
    const KernelTable older = kernels_of(other.library());
    EXPECT_NE(older.fill, nullptr);
    EXPECT_EQ(older.adamw, nullptr) << "read past the end of the library's table";
}

TEST_F(CudaLibrary, TheDriversReasonIsPassedOn) {
    loader.set_path(fake("libfake_without_driver.so"));
    const CudaStatus status = loader.status();
    EXPECT_EQ(status.unavailable, "CUDA: no driver in this fake");
    EXPECT_EQ(status.library_version, "fake");
    EXPECT_TRUE(status.devices.empty());
}

TEST_F(CudaLibrary, DeviceNumbersAndArchitecturesAreChecked) {
    loader.set_path(fake("libfake_good.so"));
    EXPECT_NO_THROW(loader.check_device(0));
    for (const auto& [index, reason] :
         {std::pair{1, "Fake 1 has compute capability 8.0; "}, std::pair{2, "no such device"}}) {
        try {
            loader.check_device(index);
            ADD_FAILURE() << index;
        } catch (const DeviceError& error) {
            expect_contains(error.what(), reason);
        }
    }
}

TEST_F(CudaLibrary, AForkedProcessIsRefused) {
    loader.set_path(fake("libfake_good.so"));
    ASSERT_EQ(reason_of(loader), "");
    const pid_t child = fork();
    if (child == 0) {
        const std::string reason = reason_of(loader);
        _exit(reason.find("CUDA cannot be used in a forked process") == 0 ? 0 : 1);
    }
    int state = 0;
    ASSERT_EQ(waitpid(child, &state, 0), child);
    EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0);
    EXPECT_EQ(reason_of(loader), "");
}

template <class Call>
std::string failure_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

// One process has one library: what follows uses the fake one as the core does.
class CudaTensors : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        setenv("TEMPRA_CUDA_LIBRARY", fake("libfake_good.so").c_str(), 1);
    }
    static constexpr Device kDevice{DeviceType::cuda, 0};
};

TEST_F(CudaTensors, DevicesAreCheckedByName) {
    EXPECT_EQ(failure_of([] { check_device("cpu"); }), "");
    EXPECT_EQ(failure_of([] { check_device("cuda"); }), "");
    const std::pair<const char*, const char*> cases[] = {
        {"cuda:1", "CUDA: Fake 1 has compute capability 8.0"},
        {"cuda:7", "CUDA: no such device in this fake"},
        {"cuda:-1", "device cuda:-1: not a device"},
        {"cuda:99999", "device cuda:99999: not a device"},
        {"cuda:1x", "device cuda:1x: not a device"},
        {"gpu", "device gpu: not a device; cpu, cuda or cuda:N is needed"}};
    for (const auto& [name, reason] : cases) {
        expect_contains(failure_of([&] { check_device(name); }), reason);
    }
}

TEST_F(CudaTensors, BytesTravelAndAreCounted) {
    const CudaTraffic before = cuda_traffic();
    const Tensor x = to_device(arange(0, 6, 1, DType::i32), kDevice);
    EXPECT_EQ(x.device(), kDevice);
    const Tensor back = to_device(x, {});
    EXPECT_EQ(back.device(), Device{});
    EXPECT_EQ(back.data_as<std::int32_t>()[5], 5);
    const CudaTraffic after = cuda_traffic();
    EXPECT_EQ(after.copies_to_device - before.copies_to_device, 1);
    EXPECT_EQ(after.copies_to_host - before.copies_to_host, 1);
    EXPECT_EQ(after.bytes_to_device - before.bytes_to_device, 24);
    EXPECT_EQ(after.waits - before.waits, 1);
}

TEST_F(CudaTensors, AKernelThatIsMissingIsNamed) {
    const Tensor x = zeros({2, 2}, DType::f32, kDevice);
    EXPECT_EQ(failure_of([&] { static_cast<void>(softmax(x)); }),
              "softmax: device cuda:0 has no kernel for it");
    EXPECT_EQ(failure_of([&] {
                  copy_(x, full({2, 2}, 1));
              }),
              "copy_: device cuda:0 has no kernel for it");
    expect_contains(failure_of([&] {
                        static_cast<void>(softmax(zeros({2}, DType::f32, {DeviceType::cuda, 1})));
                    }),
                    "CUDA: Fake 1 has compute capability 8.0");
}

TEST_F(CudaTensors, AForkedProcessIsRefused) {
    Tensor x = zeros({2}, DType::f32, kDevice);
    const pid_t child = fork();
    if (child == 0) {
        const std::string reason = failure_of([&] { fill_(x, 1); });
        x = Tensor();  // the parent's memory: nothing is done, and nothing is raised
        _exit(reason.find("CUDA cannot be used in a forked process") == 0 ? 0 : 1);
    }
    int state = 0;
    ASSERT_EQ(waitpid(child, &state, 0), child);
    EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0);
}

}  // namespace
}  // namespace tempra
