// cuDNN itself, without a GPU: every kind of plan that attention asks for is built, engine and all,
// for devices described to cuDNN in its own words. Shows that cuDNN takes our graphs, not what they
// compute. Skipped where there is no cuDNN; CMake puts a driver that takes everything in its way.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "cudnn_attention_plan.h"
#include "cudnn_library.h"

namespace tempra::cuda {
namespace {

struct Described {
    std::int32_t architecture;
    const char* name;
    int multiprocessors, shared_bytes, threads, blocks;
    long long memory, cache;
    int bus;
    friend void PrintTo(const Described& d, std::ostream* to) { *to << d.name; }
};
// One of a kind: 8.6 and 8.9 get the engines of 8.0.
constexpr Described kDevices[] = {
    {80, "NVIDIA A100-SXM4-80GB", 108, 166912, 2048, 32, 85000000000, 41943040, 5120},
    {90, "NVIDIA H200", 132, 232448, 2048, 32, 150000000000, 62914560, 6144},
    {100, "NVIDIA B200", 148, 232448, 2048, 32, 190000000000, 132644864, 8192},
    {120, "NVIDIA GeForce RTX 5090", 170, 101376, 1536, 24, 33600000000, 100663296, 512},
};

std::string words(const Described& d) {
    const auto number = [](const char* key, long long value) {
        return std::string(", \"") + key + "\": " + std::to_string(value);
    };
    return std::string("{\"deviceName\": \"") + d.name +
           "\", \"maxGridSize\": [2147483647, 65535, " +
           "65535], \"maxBlockSize\": [1024, 1024, 64]" + number("cudaDeviceId", 0) +
           number("deviceVer", d.architecture * 10) +
           number("multiProcessorCount", d.multiprocessors) + number("driverVer", 13000) +
           number("maxSharedMemoryPerBlockOptin", d.shared_bytes) +
           number("totalGlobalMem", d.memory) + number("regsPerBlock", 65536) +
           number("warpSize", 32) + number("maxSharedMemoryPerBlock", 49152) +
           number("reservedSharedMemoryPerBlock", 1024) + number("maxRegistersPerSM", 65536) +
           number("maxCtasPerSM", d.blocks) + number("maxThreadsPerBlock", 1024) +
           number("maxThreadsPerSM", d.threads) + number("pciDeviceId", 0) +
           number("isTccDriver", 0) + number("supportCoopLaunch", 1) +
           number("smClockRateKHz", 1980000) + number("memClockRateKHz", 2600000) +
           number("memoryBusWidth", d.bus) + number("l2CacheSize", d.cache) + "}";
}

struct Problem {
    const char* name;
    std::int64_t sequences, queries, keys, heads, kv_heads, head_dim;
    bool ragged = false, causal = true, statistics = true;
    std::int32_t window = 0;
    DType dtype = DType::bf16;
};
const std::vector<Problem> kProblems = {
    {"GPT-2", 16, 1024, 1024, 12, 12, 64},
    {"LLaMA", 4, 2048, 2048, 32, 8, 64},
    {"heads of 128, fp16", 2, 512, 512, 16, 16, 128, false, true, true, 0, DType::f16},
    {"odd lengths", 3, 1001, 1001, 6, 2, 64},
    {"short", 12, 65, 65, 4, 4, 32},
    {"heads of 40", 2, 77, 77, 4, 4, 40},
    {"one sequence", 1, 300, 300, 4, 2, 64},
    {"window", 2, 700, 700, 8, 2, 128, false, true, true, 256},
    {"not causal, other keys", 2, 90, 333, 4, 4, 64, false, false},
    {"fewer queries than keys", 2, 100, 260, 4, 4, 64},
    {"inference", 2, 1024, 1024, 12, 12, 64, false, true, false},
    {"packed", 16, 1024, 1024, 12, 12, 64, true},
    {"packed, groups, heads of 128", 8, 2048, 2048, 32, 8, 128, true},
    {"packed, window", 4, 512, 512, 8, 8, 64, true, true, true, 100},
    {"packed, not causal, fp16", 4, 128, 128, 8, 8, 64, true, false, true, 0, DType::f16},
};

CudnnAttentionShape shape_of(const Problem& p, std::int32_t architecture, bool backward) {
    // As the op layer has it: q, k and v are slices of one buffer, and so are their gradients.
    const auto view = [&](std::int64_t rows, std::int64_t heads, std::int64_t row_stride) {
        TensorView v;
        v.data = reinterpret_cast<void*>(std::uintptr_t{4096});
        v.dtype = p.dtype;
        v.dimensions = 3;
        v.sizes[0] = rows;
        v.sizes[1] = heads;
        v.sizes[2] = p.head_dim;
        v.strides[0] = row_stride;
        v.strides[1] = p.head_dim;
        v.strides[2] = 1;
        return v;
    };
    const std::int64_t packed = (p.heads + 2 * p.kv_heads) * p.head_dim;
    const std::int64_t rows = p.sequences * p.queries, key_rows = p.sequences * p.keys;
    AttentionBackwardArguments b;
    AttentionArguments& a = b.forward;
    a.q = view(rows, p.heads, packed);
    a.k = a.v = view(key_rows, p.kv_heads, packed);
    a.out = b.grad_out = view(rows, p.heads, p.heads * p.head_dim);
    b.grad_q = a.q;
    b.grad_k = b.grad_v = a.k;
    if (p.statistics) {
        a.log_sum_exp = view(p.heads, rows, rows);
        a.log_sum_exp.strides[1] = 1;
    }
    a.offsets_q = a.q;
    a.offsets_q.sizes[0] = p.sequences + 1;
    a.offsets_k = a.offsets_q;
    a.scale = 0.125;
    a.causal = p.causal ? 1 : 0;
    a.window = p.window;
    a.max_query_length = p.queries;
    a.max_key_length = p.keys;
    a.uniform = p.ragged ? 0 : 1;
    const AttentionBackwardArguments* const gradients = backward ? &b : nullptr;
    const char* const refusal = cudnn_refusal(a, gradients, architecture);
    EXPECT_EQ(refusal, nullptr) << p.name << ": " << refusal;
    return cudnn_attention_shape(a, gradients, architecture, true);
}

class Plans : public testing::TestWithParam<Described> {
  protected:
    void SetUp() override {
        std::string reason;
        library = cudnn_library(reason);
        if (library == nullptr) GTEST_SKIP() << reason;
    }
    const CudnnLibrary* library = nullptr;
};

TEST_P(Plans, AreBuiltForAllThatIsNotRefused) {
    const Described& device = GetParam();
    const std::string described = words(device);
    for (const Problem& p : kProblems) {
        const bool hopper_or_blackwell =
            device.architecture / 10 == 9 || device.architecture / 10 == 10;
        if (p.ragged && !hopper_or_blackwell) continue;  // refused
        for (const bool backward : {false, true}) {
            if (backward && !p.statistics) continue;
            const CudnnAttentionShape shape = shape_of(p, device.architecture, backward);
            std::string reason;
            const auto plan = build_cudnn_attention(*library, shape, nullptr, described, reason);
            ASSERT_NE(plan, nullptr) << p.name << (backward ? ", gradient: " : ": ") << reason;
            // All tensors of the graph are named; then there is no handle to run it on.
            CudnnPointers tensors{};
            tensors.fill(reinterpret_cast<void*>(std::uintptr_t{4096}));
            const std::string problem = plan->run(nullptr, tensors, nullptr);
            EXPECT_NE(problem.find("CUDNN_STATUS"), std::string::npos) << p.name << ": " << problem;
            std::printf("%-28.28s %-8s %9.1f MB  %s\n", p.name, backward ? "gradient" : "forward",
                        static_cast<double>(plan->workspace_bytes()) * 1e-6,
                        plan->engine().c_str());
        }
    }
}

TEST_P(Plans, InOrderDifferFromThoseInAnyOrder) {
    // The workspace tells: in order, dP is kept (9.x and before) or dQ needs no fp32 sums (10.x).
    CudnnAttentionShape shape = shape_of(kProblems[0], GetParam().architecture, true);
    std::string reason;
    const auto in_order =
        build_cudnn_attention(*library, shape, nullptr, words(GetParam()), reason);
    ASSERT_NE(in_order, nullptr) << reason;
    shape.deterministic = false;
    const auto any = build_cudnn_attention(*library, shape, nullptr, words(GetParam()), reason);
    ASSERT_NE(any, nullptr) << reason;
    EXPECT_NE(in_order->workspace_bytes(), any->workspace_bytes());
}

TEST_P(Plans, AReasonIsGivenWhereThereIsNone) {
    CudnnAttentionShape shape = shape_of(kProblems[0], GetParam().architecture, true);
    shape.head_dim = 60;  // what is refused before
    std::string reason;
    EXPECT_EQ(build_cudnn_attention(*library, shape, nullptr, words(GetParam()), reason), nullptr);
    EXPECT_NE(reason, "");
    EXPECT_EQ(reason.find('\n'), std::string::npos) << reason;
}

INSTANTIATE_TEST_SUITE_P(Devices, Plans, testing::ValuesIn(kDevices), [](const auto& info) {
    return "sm_" + std::to_string(info.param.architecture);
});

}  // namespace
}  // namespace tempra::cuda
