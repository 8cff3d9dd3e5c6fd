// Graphs through the library's table: what is captured runs with every launch on what lies in
// device memory then, and nobody else gets the memory it uses. On the emulated device, or on the
// library that TEMPRA_CUDA_GRAPH_LIBRARY names and device 0.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda {
namespace {

constexpr std::int64_t kCount = 5000;
constexpr ArenaSegment kSegments[] = {{0, 3001, 0, 0}, {3001, 1999, 1, 0}};
constexpr AdamWGroup kGroups[] = {{1.0F, 0.1F, 0.9F, 0.95F, 1e-8F},
                                  {0.5F, 0.0F, 0.8F, 0.99F, 1e-6F}};

std::vector<float> numbers(std::int64_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& v : values) v = normal(engine);
    return values;
}

class Graphs : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        const char* const given = std::getenv("TEMPRA_CUDA_GRAPH_LIBRARY");
        handle = dlopen(given != nullptr ? given : TEMPRA_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(handle, nullptr) << dlerror();
        const auto open = reinterpret_cast<TempraCudaOpen>(dlsym(handle, TEMPRA_CUDA_ENTRY_POINT));
        ASSERT_NE(open, nullptr) << dlerror();
        ASSERT_EQ(open(TEMPRA_CUDA_ABI_VERSION, nullptr, &library, nullptr, 0), TEMPRA_CUDA_OK);
    }
    void SetUp() override {
        if (library->set_device(0) != TEMPRA_CUDA_OK) GTEST_SKIP() << library->last_error();
        ASSERT_EQ(library->stream_create(&stream), TEMPRA_CUDA_OK) << library->last_error();
    }
    void TearDown() override {
        if (stream != nullptr) require(library->stream_destroy(stream));
    }

    static void require(TempraCudaStatus status) {
        ASSERT_EQ(status, TEMPRA_CUDA_OK) << library->last_error();
    }
    [[nodiscard]] static const KernelTable& kernels() {
        return *static_cast<const KernelTable*>(library->kernels);
    }
    [[nodiscard]] void* allocate(std::int64_t bytes) const {
        void* block = nullptr;
        require(library->allocate(bytes, stream, &block));
        return block;
    }
    template <class T>
    [[nodiscard]] T* upload(const T* data, std::size_t count) const {
        void* const block = allocate(static_cast<std::int64_t>(count * sizeof(T)));
        write(block, data, count * sizeof(T));
        return static_cast<T*>(block);
    }
    void write(void* to, const void* from, std::size_t bytes) const {
        require(library->copy_to_device(to, from, static_cast<std::int64_t>(bytes), stream));
        require(library->stream_synchronize(stream));
    }
    template <class T>
    [[nodiscard]] std::vector<T> read(const T* from, std::size_t count) const {
        std::vector<T> values(count);
        require(library->copy_to_host(values.data(), from,
                                      static_cast<std::int64_t>(count * sizeof(T)), stream));
        require(library->stream_synchronize(stream));
        return values;
    }
    template <class Body>
    [[nodiscard]] void* capture(const Body& body) const {
        void* graph = nullptr;
        require(library->capture_begin(stream));
        body();
        require(library->capture_end(stream, &graph));
        return graph;
    }

    static inline void* handle = nullptr;
    static inline const TempraCudaLibrary* library = nullptr;
    void* stream = nullptr;
};

TensorView vector_view(void* data, DType dtype, std::int64_t count) {
    TensorView view;
    view.data = data;
    view.dtype = dtype;
    view.dimensions = 1;
    view.sizes[0] = count;
    view.strides[0] = 1;
    return view;
}

// Parameters, moments and scalars of one optimizer, on the device.
struct Optimizer {
    float *parameters, *gradients, *first_moments, *second_moments;
    double* sum;
    ArenaSegment* segments;
    AdamWGroup* groups;
    StepScalars* scalars;

    [[nodiscard]] KernelStatus step(const KernelTable& k, const KernelContext& c) const {
        KernelStatus status = k.sum_of_squares(c, gradients, segments, 2, sum);
        if (status == kKernelOk) status = k.prepare_step(c, sum, scalars);
        const AdamWArguments arguments{
            parameters, gradients, first_moments, second_moments, nullptr,
            segments,   2,         groups,        scalars};
        return status == kKernelOk ? k.adamw(c, arguments) : status;
    }
};

class OptimizerGraphs : public Graphs {
  protected:
    [[nodiscard]] Optimizer make() const {
        StepScalars scalars{};
        scalars.learning_rate = 1e-2F;
        scalars.gradient_scale = 0.5F;
        scalars.max_gradient_norm = 1.0F;
        scalars.loss_scale = 1024.0F;
        const std::vector<float> zeros(kCount), start = numbers(kCount, 1);
        const double none = 0;
        return {upload(start.data(), kCount),
                upload(zeros.data(), kCount),
                upload(zeros.data(), kCount),
                upload(zeros.data(), kCount),
                upload(&none, 1),
                upload(kSegments, 2),
                upload(kGroups, 2),
                upload(&scalars, 1)};
    }
    // What varies from step to step: gradients and the learning rate.
    void prepare(const Optimizer& o, int step) const {
        std::vector<float> gradients = numbers(kCount, 10U + static_cast<unsigned>(step));
        for (float& g : gradients) g *= 1024.0F;
        if (step == 2) gradients[4000] = HUGE_VALF;
        write(o.gradients, gradients.data(), kCount * 4);
        const float rate = 1e-2F / static_cast<float>(step);
        write(&o.scalars->learning_rate, &rate, sizeof(rate));
    }
    void expect_equal(const Optimizer& a, const Optimizer& b) const {
        const auto bytes = [this](const Optimizer& o) {
            std::vector<std::vector<float>> all = {read(o.parameters, kCount),
                                                   read(o.first_moments, kCount),
                                                   read(o.second_moments, kCount)};
            return all;
        };
        EXPECT_EQ(bytes(a), bytes(b));
        const StepScalars x = read(a.scalars, 1)[0], y = read(b.scalars, 1)[0];
        EXPECT_EQ(std::memcmp(&x, &y, sizeof(x)), 0);
    }
};

TEST_F(OptimizerGraphs, ReplayWithTheStepsOwnScalars) {
    const Optimizer direct = make(), replayed = make();
    const std::vector<float> start = read(replayed.parameters, kCount);
    void* const graph = capture(
        [&] { ASSERT_EQ(replayed.step(kernels(), {stream}), kKernelOk) << library->last_error(); });
    EXPECT_EQ(read(replayed.parameters, kCount), start) << "capturing must not run anything";
    for (int step = 1; step <= 4; ++step) {
        prepare(direct, step);
        prepare(replayed, step);
        ASSERT_EQ(direct.step(kernels(), {stream}), kKernelOk);
        require(library->graph_launch(graph, stream));
        expect_equal(direct, replayed);
    }
    const StepScalars scalars = read(replayed.scalars, 1)[0];
    EXPECT_EQ(scalars.step_count, 3) << "one of the four was skipped";
    EXPECT_EQ(scalars.skipped_total, 1);
    EXPECT_EQ(scalars.loss_scale, 512.0F);
    EXPECT_NE(read(replayed.parameters, kCount), start);
    require(library->graph_destroy(graph));
}

TEST_F(OptimizerGraphs, KeepScratchMemoryToThemselves) {
    const Optimizer o = make();
    prepare(o, 1);
    void* const graph = capture([&] {
        ASSERT_EQ(kernels().sum_of_squares({stream}, o.gradients, o.segments, 2, o.sum), kKernelOk);
    });
    // Blocks of the partial sums' size, and some around it, filled: none may be the graph's.
    constexpr std::int64_t kElements = 2048;
    const std::vector<float> pattern(kElements, 7.5F);
    std::vector<float*> blocks;
    for (int i = 0; i < 40; ++i) blocks.push_back(upload(pattern.data(), kElements));
    require(library->graph_launch(graph, stream));
    for (const float* block : blocks) ASSERT_EQ(read(block, kElements), pattern);
    double want = 0;
    for (const float g : read(o.gradients, kCount)) want += static_cast<double>(g) * g;
    EXPECT_NEAR(read(o.sum, 1)[0], want, 1e-12 * want);
    require(library->graph_destroy(graph));
    for (float* block : blocks) require(library->release(block));
}

TEST_F(Graphs, HoldWhatWasReleasedMeanwhile) {
    constexpr std::int64_t kBytes = std::int64_t{3} << 20;
    void* const block = allocate(kBytes);
    void* inside = nullptr;
    void* const graph = capture([&] {
        const TensorView view = vector_view(block, DType::f32, kBytes / 4);
        ASSERT_EQ(kernels().fill({stream}, view, 2.0), kKernelOk);
        require(library->release(block));
        inside = allocate(kBytes);
        EXPECT_EQ(inside, block) << "within the graph it is free";
        require(library->release(inside));
    });
    void* const other = allocate(kBytes);
    EXPECT_NE(other, block) << "the graph writes there";
    require(library->graph_launch(graph, stream));
    require(library->graph_destroy(graph));
    void* const later = allocate(kBytes);
    EXPECT_EQ(later, block) << "given back with the graph";
    require(library->release(later));
    require(library->release(other));
}

TEST_F(Graphs, RefuseToWait) {
    const std::vector<float> zeros(kCount);
    float* const data = upload(zeros.data(), kCount);
    void* event = nullptr;
    require(library->event_create(&event));
    require(library->event_record(event, stream));
    void* const graph = capture([&] {
        EXPECT_EQ(library->stream_synchronize(stream), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        const std::string said = library->last_error();
        EXPECT_NE(said.find("stream_synchronize: a stream is being captured"), std::string::npos)
            << said;
        EXPECT_EQ(said.find('\n'), std::string::npos);
        EXPECT_EQ(library->stream_destroy(stream), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        EXPECT_EQ(library->release_cached_memory(), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        EXPECT_EQ(library->capture_begin(stream), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        EXPECT_EQ(library->event_record(event, stream), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        EXPECT_EQ(library->stream_wait(stream, event), TEMPRA_CUDA_STREAM_IS_CAPTURED);
        const TensorView view = vector_view(data, DType::f32, kCount);
        ASSERT_EQ(kernels().fill({stream}, view, 3.0), kKernelOk);
    });
    ASSERT_NE(graph, nullptr) << "the capture went on";
    EXPECT_EQ(read(data, kCount), zeros);
    require(library->graph_launch(graph, stream));
    EXPECT_EQ(read(data, kCount), std::vector<float>(kCount, 3.0F));
    require(library->graph_destroy(graph));
    require(library->event_record(event, stream));
    require(library->event_destroy(event));
}

// A recorded copy would use the host's memory with every launch, long after the caller's is gone.
TEST_F(Graphs, RefuseCopiesFromAndToTheHost) {
    const std::vector<float> zeros(kCount), ones(kCount, 1.0F);
    float* const data = upload(zeros.data(), kCount);
    std::vector<float> sent = ones, received = ones;
    void* const graph = capture([&] {
        EXPECT_EQ(library->copy_to_device(data, sent.data(), 4 * kCount, stream),
                  TEMPRA_CUDA_STREAM_IS_CAPTURED);
        const std::string said = library->last_error();
        EXPECT_EQ(said.rfind("copy_to_device: a stream is being captured", 0), 0U) << said;
        EXPECT_EQ(library->copy_to_host(received.data(), data, 4 * kCount, stream),
                  TEMPRA_CUDA_STREAM_IS_CAPTURED);
        ASSERT_EQ(kernels().fill({stream}, vector_view(data, DType::f32, 1), 3.0), kKernelOk);
    });
    ASSERT_NE(graph, nullptr) << "the capture went on";
    require(library->graph_launch(graph, stream));
    EXPECT_EQ(received, ones);
    EXPECT_EQ(read(data, 2), (std::vector<float>{3.0F, 0.0F}));
    require(library->graph_destroy(graph));
    require(library->release(data));
}

TEST_F(Graphs, RefuseWhatTheyAreNot) {
    void* graph = &graph;
    EXPECT_EQ(library->capture_end(stream, &graph), TEMPRA_CUDA_BAD_ARGUMENT);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(library->capture_begin(nullptr), TEMPRA_CUDA_BAD_ARGUMENT);
    EXPECT_EQ(library->graph_launch(nullptr, stream), TEMPRA_CUDA_BAD_ARGUMENT);
    EXPECT_EQ(library->graph_destroy(this), TEMPRA_CUDA_BAD_ARGUMENT);
    require(library->capture_begin(stream));
    require(library->capture_end(stream, nullptr));  // discarded
    require(library->stream_synchronize(stream));
}

// The runtime keeps a thread's last error until somebody asks, as every launch does.
TEST_F(Graphs, ALaunchIsNotBlamedForACallThatFailedBefore) {
    void* block = nullptr;
    EXPECT_NE(library->allocate_pinned(std::int64_t{1} << 60, &block), TEMPRA_CUDA_OK);
    void* const data = allocate(4 * kCount);
    EXPECT_EQ(kernels().fill({stream}, vector_view(data, DType::f32, kCount), 3.0), kKernelOk)
        << library->last_error();
    require(library->release(data));
}

// A product by cuBLASLt and a sort, with the scratch memory of both.
TEST_F(Graphs, HoldProductsAndSorts) {
    constexpr std::int64_t kSide = 64, kElements = kSide * kSide;
    const auto matrix = [&](void* data) {
        TensorView view = vector_view(data, DType::f32, kSide);
        view.dimensions = 2;
        view.sizes[1] = kSide;
        view.strides[0] = kSide;
        view.strides[1] = 1;
        return view;
    };
    const std::vector<float> zeros(kElements);
    float* const a = upload(numbers(kElements, 3).data(), kElements);
    float* const b = upload(numbers(kElements, 4).data(), kElements);
    float* const product = upload(zeros.data(), kElements);
    float* const values = upload(zeros.data(), kElements);
    void* const places = allocate(kElements * 8);
    TensorView indices = matrix(places);
    indices.dtype = DType::i64;
    const auto run = [&] {
        GemmArguments g;
        g.a = matrix(a);
        g.b = matrix(b);
        g.c = matrix(product);
        ASSERT_EQ(kernels().gemm({stream}, g), kKernelOk) << library->last_error();
        ASSERT_EQ(kernels().sort({stream}, g.c, 1, 0, matrix(values), indices), kKernelOk);
    };
    run();  // what cuBLASLt sets up is not a part of a graph
    void* const graph = capture(run);
    for (unsigned seed = 5; seed < 8; ++seed) {
        write(a, numbers(kElements, seed).data(), kElements * 4);
        run();
        const std::vector<float> want = read(values, kElements);
        write(values, zeros.data(), kElements * 4);
        require(library->graph_launch(graph, stream));
        EXPECT_EQ(read(values, kElements), want);
    }
    require(library->graph_destroy(graph));
}

}  // namespace
}  // namespace tempra::cuda
