// Which kernels attention puts on a stream, on the emulated device with its cuDNN.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {
namespace {

constexpr std::int64_t kLength = 16, kSequences = 2, kHeads = 2, kDim = 16;
constexpr std::int64_t kTokens = kLength * kSequences;

class AttentionChoice : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        setenv("TEMPRA_EMULATED_CUDNN", "1", 1);
        void* const handle = dlopen(TEMPRA_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(handle, nullptr) << dlerror();
        const auto open = reinterpret_cast<TempraCudaOpen>(dlsym(handle, TEMPRA_CUDA_ENTRY_POINT));
        ASSERT_NE(open, nullptr) << dlerror();
        TempraCudaHostServices services{};
        services.size = sizeof(services);
        services.user = &launched;
        services.kernel_launched = [](void* user, const char* name, void*) {
            static_cast<std::vector<std::string>*>(user)->emplace_back(name);
        };
        ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, &services, &library, nullptr, 0), TEMPRA_CUDA_OK);
        ASSERT_EQ(library->set_device(0), TEMPRA_CUDA_OK);
        ASSERT_EQ(library->stream_create(&stream), TEMPRA_CUDA_OK);
    }
    void SetUp() override { library->attention_choose(1, 1); }

    static const KernelTable& kernels() {
        return *static_cast<const KernelTable*>(library->kernels);
    }
    static TensorView heads(std::int64_t dim = kDim) {
        TensorView view;
        view.dtype = DType::bf16;
        view.device = {DeviceType::cuda, 0};
        view.dimensions = 3;
        view.sizes[0] = kTokens;
        view.sizes[1] = kHeads;
        view.sizes[2] = dim;
        view.strides[0] = kHeads * dim;
        view.strides[1] = dim;
        view.strides[2] = 1;
        view.data = block(kTokens * kHeads * dim * 2);
        return view;
    }
    static void* block(std::int64_t bytes) {
        void* made = nullptr;
        EXPECT_EQ(library->allocate(bytes, stream, &made), TEMPRA_CUDA_OK);
        const std::vector<char> zeros(static_cast<std::size_t>(bytes));
        EXPECT_EQ(library->copy_to_device(made, zeros.data(), bytes, stream), TEMPRA_CUDA_OK);
        return made;
    }
    static AttentionBackwardArguments arguments(std::int64_t dim = kDim) {
        AttentionBackwardArguments b;
        AttentionArguments& a = b.forward;
        for (TensorView* view :
             {&a.q, &a.k, &a.v, &a.out, &b.grad_out, &b.grad_q, &b.grad_k, &b.grad_v}) {
            *view = heads(dim);
        }
        a.log_sum_exp = heads();
        a.log_sum_exp.dtype = DType::f32;
        a.log_sum_exp.dimensions = 2;
        a.log_sum_exp.sizes[0] = kHeads;
        a.log_sum_exp.sizes[1] = kTokens;
        a.log_sum_exp.strides[0] = kTokens;
        a.log_sum_exp.strides[1] = 1;
        a.log_sum_exp.data = block(kTokens * kHeads * 4);
        a.offsets_q = heads();
        a.offsets_q.dtype = DType::i32;
        a.offsets_q.dimensions = 1;
        a.offsets_q.sizes[0] = kSequences + 1;
        a.offsets_q.strides[0] = 1;
        const std::int32_t at[] = {0, kLength, 2 * kLength};
        EXPECT_EQ(library->copy_to_device(a.offsets_q.data, at, sizeof(at), stream),
                  TEMPRA_CUDA_OK);
        a.offsets_k = a.offsets_q;
        a.scale = 0.25;
        a.max_query_length = a.max_key_length = kLength;
        a.uniform = 1;
        return b;
    }
    // Whether cuDNN did it.
    static bool by_cudnn(const AttentionBackwardArguments& b) {
        launched.clear();
        EXPECT_EQ(kernels().attention({stream}, b.forward), kKernelOk) << library->last_error();
        EXPECT_EQ(kernels().attention_backward({stream}, b), kKernelOk) << library->last_error();
        EXPECT_EQ(library->stream_synchronize(stream), TEMPRA_CUDA_OK) << library->last_error();
        int found = 0;
        for (const std::string& name : launched) {
            found += static_cast<int>(name.find("(cuDNN)") != std::string::npos);
        }
        EXPECT_TRUE(found == 0 || found == 2) << found;
        return found == 2;
    }

    static inline std::vector<std::string> launched;
    static inline const TempraCudaLibrary* library = nullptr;
    static inline void* stream = nullptr;
};

TEST_F(AttentionChoice, IsCudnnWhereItIsUnlessChosenOtherwise) {
    AttentionBackwardArguments b = arguments();
    EXPECT_TRUE(by_cudnn(b));
    b.forward.uniform = 0;
    EXPECT_TRUE(by_cudnn(b)) << "packed";
    library->attention_choose(0, -1);
    EXPECT_FALSE(by_cudnn(b));
    EXPECT_STREQ(library->attention_kernels(), "our own kernels, as chosen");
    library->attention_choose(1, -1);
    EXPECT_TRUE(by_cudnn(b));
    EXPECT_EQ(std::string(library->attention_kernels()).rfind("emulated cuDNN (", 0), 0U);
}

TEST_F(AttentionChoice, LeavesToUsWhatCudnnDoesNotTake) {
    AttentionBackwardArguments b = arguments();
    b.forward.dropout_probability = 0.5;
    EXPECT_FALSE(by_cudnn(b));
}

TEST_F(AttentionChoice, LeavesToUsWhatHasNoPlanAndSaysWhy) {
    const std::string before = library->attention_kernels();
    EXPECT_EQ(before.find("heads of up to 128"), std::string::npos);
    EXPECT_FALSE(by_cudnn(arguments(136)));
    const std::string after = library->attention_kernels();
    EXPECT_NE(after.find("2 left to our own kernels"), std::string::npos) << after;
    EXPECT_NE(after.find("the emulated cuDNN has heads of up to 128"), std::string::npos) << after;
    EXPECT_EQ(after.find('\n'), std::string::npos);
    EXPECT_FALSE(by_cudnn(arguments(136)));
    EXPECT_EQ(after, library->attention_kernels()) << "asked once";
}

TEST_F(AttentionChoice, NeedsItsPlansBeforeACapture) {
    AttentionBackwardArguments b = arguments(24);
    ASSERT_EQ(library->capture_begin(stream), TEMPRA_CUDA_OK);
    EXPECT_EQ(kernels().attention({stream}, b.forward), kKernelFailed);
    EXPECT_NE(std::string(library->last_error()).find("run the step once before"),
              std::string::npos)
        << library->last_error();
    ASSERT_EQ(library->capture_end(stream, nullptr), TEMPRA_CUDA_OK);
    EXPECT_TRUE(by_cudnn(b));
    void* graph = nullptr;
    ASSERT_EQ(library->capture_begin(stream), TEMPRA_CUDA_OK);
    EXPECT_EQ(kernels().attention({stream}, b.forward), kKernelOk) << library->last_error();
    EXPECT_EQ(kernels().attention_backward({stream}, b), kKernelOk) << library->last_error();
    ASSERT_EQ(library->capture_end(stream, &graph), TEMPRA_CUDA_OK) << library->last_error();
    EXPECT_EQ(library->graph_launch(graph, stream), TEMPRA_CUDA_OK);
    EXPECT_EQ(library->stream_synchronize(stream), TEMPRA_CUDA_OK);
    EXPECT_EQ(library->graph_destroy(graph), TEMPRA_CUDA_OK);
}

}  // namespace
}  // namespace tempra::cuda
