// Times the kernels of one training step of GPT-2 124M (bf16, AdamW over fp32 masters) on device 0,
// each by itself and on random data, and adds up what a step of them takes.
//
//   kernel_timings LIBRARY [sequences of 1024 tokens]     one line of JSON per kernel, then the sum
//
// It is the sum of a step's kernels, not a step: nothing here has autograd, a data loader or gaps
// between launches. Every kernel's bytes or operations are those that must be moved or done, each
// operand once; `copy_share` is its bandwidth over that of a copy of 256 MiB, measured first.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "parity_harness.h"

namespace {

using namespace tempra;
using namespace tempra::cuda::parity;

constexpr std::int64_t kLayers = 12, kWidth = 768, kHeads = 12, kBlock = 1024, kVocabulary = 50304;
constexpr std::int64_t kParameters = 124475904;  // of GPT-2 with this vocabulary, tied head

[[noreturn]] void stop(const std::string& reason) {
    std::fprintf(stderr, "kernel_timings: %s\n", reason.c_str());
    std::exit(1);
}

class Bench {
  public:
    explicit Bench(Backend& backend) : backend_(backend) {}

    TensorView make(DType dtype, std::vector<std::int64_t> sizes, double deviation = 1) {
        TensorView view = tensor_view(dtype, sizes);
        void* block = nullptr;
        require(backend_.allocate(view.numel() * size_of(dtype), &block));
        view.data = block;
        const PhiloxKey key{7, 0, ordinal_++, 0};
        if (is_floating(dtype)) {
            require(backend_.kernels().random_fill(backend_.context(), RandomDistribution::normal,
                                                   0, deviation, key, view));
        }
        return view;
    }
    TensorView make_from(const std::vector<std::int32_t>& values) {
        const TensorView view = make(DType::i32, {static_cast<std::int64_t>(values.size())});
        require(backend_.upload(view.data, values.data(), view.numel() * 4));
        require(backend_.synchronize());
        return view;
    }

    // `per_step`: how often the step runs it.
    template <class Body>
    void time(const char* name, int per_step, double bytes, double operations, const Body& body) {
        constexpr int kWarmUps = 3, kRounds = 5, kRepeats = 10;
        const auto run = [&](int times) {
            for (int i = 0; i < times; ++i) require(body(backend_.kernels(), backend_.context()));
            require(backend_.synchronize());
        };
        run(kWarmUps);
        std::vector<double> seconds;
        for (int round = 0; round < kRounds; ++round) {
            const auto begin = std::chrono::steady_clock::now();
            run(kRepeats);
            const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
            seconds.push_back(taken.count() / kRepeats);
        }
        std::sort(seconds.begin(), seconds.end());
        const double median = seconds[kRounds / 2], bandwidth = bytes / median;
        total_ += median * per_step;
        if (copy_bandwidth_ == 0) copy_bandwidth_ = bandwidth;
        std::printf(
            "{\"kernel\": \"%s\", \"per_step\": %d, \"milliseconds\": %.4f, \"spread\": %.3f, "
            "\"megabytes\": %.0f, \"gigabytes_per_second\": %.0f, \"copy_share\": %.3f, "
            "\"tflops\": %.1f}\n",
            name, per_step, median * 1e3, (seconds.back() - seconds.front()) / median, bytes * 1e-6,
            bandwidth * 1e-9, bandwidth / copy_bandwidth_, operations / median * 1e-12);
        std::fflush(stdout);
    }
    [[nodiscard]] double total() const { return total_; }
    [[nodiscard]] static TensorView transposed(TensorView view) {
        std::swap(view.sizes[0], view.sizes[1]);
        std::swap(view.strides[0], view.strides[1]);
        return view;
    }

  private:
    static TensorView tensor_view(DType dtype, const std::vector<std::int64_t>& sizes) {
        TensorView view;
        view.dtype = dtype;
        view.device = {DeviceType::cuda, 0};
        view.dimensions = static_cast<std::int32_t>(sizes.size());
        std::int64_t stride = 1;
        for (std::size_t d = sizes.size(); d-- > 0;) {
            view.sizes[d] = sizes[d];
            view.strides[d] = stride;
            stride *= sizes[d];
        }
        return view;
    }
    void require(const std::string& problem) const {
        if (!problem.empty()) stop(problem);
    }
    void require(KernelStatus status) const {
        if (status != kKernelOk) stop(backend_.last_error());
    }

    Backend& backend_;
    std::uint32_t ordinal_ = 0;
    double total_ = 0, copy_bandwidth_ = 0;
};

// The first: what others are compared with.
void time_copy(Bench& bench) {
    constexpr std::int64_t kElements = std::int64_t{1} << 26;
    const TensorView from = bench.make(DType::f32, {kElements}),
                     to = bench.make(DType::f32, {kElements});
    bench.time("copy of 256 MiB", 0, 8.0 * kElements, 0,
               [&](const KernelTable& k, const KernelContext& c) { return k.copy(c, from, to); });
}

// The three products of a linear layer [tokens, in] -> [tokens, out].
void time_linear(Bench& bench, const char* name, std::int64_t tokens, std::int64_t in,
                 std::int64_t out, Activation activation, bool residual) {
    const TensorView x = bench.make(DType::bf16, {tokens, in});
    const TensorView weight = bench.make(DType::bf16, {out, in}, 0.02);
    const TensorView y = bench.make(DType::bf16, {tokens, out});
    const TensorView added = residual ? bench.make(DType::bf16, {tokens, out}) : TensorView{};
    const bool keeps = activation != Activation::none;
    const TensorView before = keeps ? bench.make(DType::bf16, {tokens, out}) : TensorView{};
    const TensorView bias = bench.make(DType::bf16, {out});
    const TensorView gradient = bench.make(DType::f32, {out, in}),
                     dx = bench.make(DType::bf16, {tokens, in});
    const double operations = 2.0 * static_cast<double>(tokens * in * out);
    const double bytes = 2.0 * static_cast<double>(tokens * in + in * out + tokens * out);
    GemmArguments forward;
    forward.a = x;
    forward.b = Bench::transposed(weight);
    forward.c = y;
    forward.bias = bias;
    forward.residual = added;
    forward.pre_activation = before;
    forward.activation = activation;
    const std::string title = name;
    bench.time((title + " forward").c_str(), kLayers, bytes, operations,
               [&](const KernelTable& k, const KernelContext& c) { return k.gemm(c, forward); });
    GemmArguments input;
    input.a = y;
    input.b = weight;
    input.c = dx;
    bench.time((title + " input gradient").c_str(), kLayers, bytes, operations,
               [&](const KernelTable& k, const KernelContext& c) { return k.gemm(c, input); });
    GemmArguments weights;
    weights.a = Bench::transposed(y);
    weights.b = x;
    weights.c = gradient;
    weights.accumulate = 1;
    bench.time((title + " weight gradient").c_str(), kLayers, bytes, operations,
               [&](const KernelTable& k, const KernelContext& c) { return k.gemm(c, weights); });
    TensorView sums = bench.make(DType::f32, {1, out});
    bench.time((title + " bias gradient").c_str(), kLayers, 2.0 * static_cast<double>(tokens * out),
               0, [&](const KernelTable& k, const KernelContext& c) {
                   return k.reduce(c, ReduceOp::sum, y, sums);
               });
    if (!keeps) return;
    bench.time((title + " activation gradient").c_str(), kLayers,
               6.0 * static_cast<double>(tokens * out), 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.unary_backward(c, UnaryOp::gelu_tanh, before, TensorView{}, y, y);
               });
}

void time_attention(Bench& bench, Backend& backend, std::int64_t sequences) {
    const std::int64_t tokens = sequences * kBlock, dim = kWidth / kHeads;
    const auto heads = [&] { return bench.make(DType::bf16, {tokens, kHeads, dim}); };
    std::vector<std::int32_t> at;
    for (std::int64_t s = 0; s <= sequences; ++s)
        at.push_back(static_cast<std::int32_t>(s * kBlock));
    AttentionBackwardArguments b;
    AttentionArguments& a = b.forward;
    a.q = heads();
    a.k = heads();
    a.v = heads();
    a.out = heads();
    a.log_sum_exp = bench.make(DType::f32, {kHeads, tokens});
    a.offsets_q = a.offsets_k = bench.make_from(at);
    a.scale = 0.125;
    a.max_query_length = a.max_key_length = kBlock;
    a.uniform = 1;
    b.grad_out = heads();
    b.grad_q = heads();
    b.grad_k = heads();
    b.grad_v = heads();
    // Causal: half of the square.
    const double product = 2.0 * static_cast<double>(tokens * kBlock * kWidth) / 2;
    const double bytes = 2.0 * static_cast<double>(tokens * kWidth);
    const auto time = [&](const std::string& which, int per_step) {
        bench.time(("attention forward" + which).c_str(), per_step, 4 * bytes, 2 * product,
                   [&](const KernelTable& k, const KernelContext& c) { return k.attention(c, a); });
        bench.time(("attention backward" + which).c_str(), per_step, 8 * bytes, 5 * product,
                   [&](const KernelTable& k, const KernelContext& c) {
                       return k.attention_backward(c, b);
                   });
    };
    // What the step takes, and beside it our own kernels, and both on the same rows as if packed.
    const bool has_cudnn = backend.choose_attention(true);
    time(has_cudnn ? " by cuDNN" : "", kLayers);
    if (!has_cudnn) return;
    a.uniform = 0;
    time(" by cuDNN, packed", 0);
    static_cast<void>(backend.choose_attention(false));
    time(" by our own kernels, packed", 0);
    a.uniform = 1;
    time(" by our own kernels", 0);
    static_cast<void>(backend.choose_attention(true));
    std::fprintf(stderr, "attention: %s\n", backend.attention_kernels().c_str());
}

// Not a part of the step: one new token of each of 16 sequences that are 8,192 tokens long.
void time_decoding(Bench& bench) {
    constexpr std::int64_t kSequences = 16, kKeys = 8192, kKvHeads = 8, kDim = 128;
    for (const std::int64_t group : {1, 4}) {
        std::vector<std::int32_t> queries, keys;
        for (std::int32_t s = 0; s <= kSequences; ++s) {
            queries.push_back(s);
            keys.push_back(s * static_cast<std::int32_t>(kKeys));
        }
        const auto heads = [&](std::int64_t tokens, std::int64_t count) {
            return bench.make(DType::bf16, {tokens, count, kDim});
        };
        AttentionArguments a;
        a.q = heads(kSequences, kKvHeads * group);
        a.k = heads(kSequences * kKeys, kKvHeads);
        a.v = heads(kSequences * kKeys, kKvHeads);
        a.out = heads(kSequences, kKvHeads * group);
        a.offsets_q = bench.make_from(queries);
        a.offsets_k = bench.make_from(keys);
        a.scale = 0.088;
        a.max_query_length = 1;
        a.max_key_length = kKeys;
        const double bytes = 4.0 * static_cast<double>(kSequences * kKeys * kKvHeads * kDim);
        bench.time(group == 1 ? "decode" : "decode, groups of four", 0, bytes, 0,
                   [&](const KernelTable& k, const KernelContext& c) { return k.attention(c, a); });
    }
}

void time_norm(Bench& bench, std::int64_t tokens) {
    const TensorView x = bench.make(DType::bf16, {tokens, kWidth});
    const TensorView y = bench.make(DType::bf16, {tokens, kWidth});
    const TensorView dx = bench.make(DType::bf16, {tokens, kWidth});
    const TensorView weight = bench.make(DType::f32, {kWidth}),
                     bias = bench.make(DType::f32, {kWidth});
    const TensorView mean = bench.make(DType::f32, {tokens}),
                     rstd = bench.make(DType::f32, {tokens});
    const double bytes = 2.0 * static_cast<double>(tokens * kWidth);
    bench.time("layer_norm forward", 2 * kLayers + 1, 2 * bytes, 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.layer_norm(c, x, weight, bias, 1e-5, y, mean, rstd);
               });
    bench.time("layer_norm backward", 2 * kLayers + 1, 3 * bytes, 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.layer_norm_backward(c, y, x, weight, mean, rstd, dx, weight, bias);
               });
    bench.time("add gradients of the residual stream", 2 * kLayers, 3 * bytes, 0,
               [&](const KernelTable& k, const KernelContext& c) { return k.accumulate(c, x, y); });
}

void time_ends(Bench& bench, std::int64_t tokens) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    for (std::size_t i = 0; i < ids.size(); ++i) {
        ids[i] = static_cast<std::int32_t>(i * 2654435761U % kVocabulary);
    }
    const TensorView labels = bench.make_from(ids);
    const TensorView hidden = bench.make(DType::bf16, {tokens, kWidth});
    const TensorView weight = bench.make(DType::bf16, {kVocabulary, kWidth}, 0.02);
    const TensorView gradient = bench.make(DType::f32, {kVocabulary, kWidth});
    const double rows = 2.0 * static_cast<double>(tokens * kWidth);
    bench.time("embedding forward", 1, 2 * rows, 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.embedding(c, weight, labels, hidden);
               });
    bench.time("embedding backward", 1, 3 * rows, 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.embedding_backward(c, hidden, labels, gradient);
               });
    LinearCrossEntropyArguments a;
    a.hidden = hidden;
    a.weight = weight;
    a.labels = labels;
    a.losses = bench.make(DType::f32, {tokens});
    a.grad_hidden = bench.make(DType::bf16, {tokens, kWidth});
    a.grad_weight = gradient;
    a.grad_scale = 1.0 / static_cast<double>(tokens);
    bench.time(
        "linear_cross_entropy with gradients", 1, 0,
        6.0 * static_cast<double>(tokens * kWidth * kVocabulary),
        [&](const KernelTable& k, const KernelContext& c) { return k.linear_cross_entropy(c, a); });
}

void time_optimizer(Bench& bench, Backend& backend) {
    const auto arena = [&] { return bench.make(DType::f32, {kParameters}, 0.02); };
    const ArenaSegment segment{0, kParameters, 0, 0};
    const AdamWGroup group{1.0F, 0.1F, 0.9F, 0.95F, 1e-8F};
    StepScalars scalars{};
    scalars.step_count = 10;
    scalars.learning_rate = 1e-4F;
    scalars.gradient_scale = 1;
    scalars.max_gradient_norm = 1;
    scalars.clip_coefficient = 1;
    const auto upload = [&](const auto& value) {
        const TensorView block = bench.make(DType::u8, {sizeof(value)});
        if (!backend.upload(block.data, &value, sizeof(value)).empty()) stop(backend.last_error());
        return block.data;
    };
    const TensorView parameters = arena(), gradients = arena(), first = arena(), second = arena();
    const TensorView copy = bench.make(DType::bf16, {kParameters});
    AdamWArguments a{};
    a.parameters = parameters.as<float>();
    a.gradients = gradients.as<const float>();
    a.first_moments = first.as<float>();
    a.second_moments = second.as<float>();
    a.low_precision = copy.as<bfloat16>();
    a.segments = static_cast<const ArenaSegment*>(upload(segment));
    a.segment_count = 1;
    a.groups = static_cast<const AdamWGroup*>(upload(group));
    a.scalars = static_cast<const StepScalars*>(upload(scalars));
    const TensorView norm = bench.make(DType::i64, {1});  // room for a double
    const auto elements = static_cast<double>(kParameters);
    bench.time("gradient norm", 1, 4 * elements, 0,
               [&](const KernelTable& k, const KernelContext& c) {
                   return k.sum_of_squares(c, a.gradients, a.segments, 1, norm.as<double>());
               });
    bench.time("adamw with bf16 copy", 1, 30 * elements, 0,
               [&](const KernelTable& k, const KernelContext& c) { return k.adamw(c, a); });
    bench.time(
        "clear gradients", 1, 4 * elements, 0,
        [&](const KernelTable& k, const KernelContext& c) { return k.fill(c, gradients, 0.0); });
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2 || count > 3) {
        std::fprintf(stderr, "usage: kernel_timings LIBRARY [sequences]\n");
        return 2;
    }
    const std::int64_t sequences = count == 3 ? std::atoll(arguments[2]) : 16;
    if (sequences < 1 || sequences > 1024) stop("1 to 1024 sequences are needed");
    std::string reason;
    const auto backend = cuda_backend(arguments[1], reason);
    if (backend == nullptr) {
        std::printf("SKIPPED: nothing was timed: %s\n", reason.c_str());
        return 77;
    }
    Bench bench(*backend);
    const std::int64_t tokens = sequences * kBlock;
    time_copy(bench);
    time_linear(bench, "qkv", tokens, kWidth, 3 * kWidth, Activation::none, false);
    time_linear(bench, "attention output", tokens, kWidth, kWidth, Activation::none, true);
    time_linear(bench, "first of mlp", tokens, kWidth, 4 * kWidth, Activation::gelu_tanh, false);
    time_linear(bench, "second of mlp", tokens, 4 * kWidth, kWidth, Activation::none, true);
    time_attention(bench, *backend, sequences);
    time_decoding(bench);
    time_norm(bench, tokens);
    time_ends(bench, tokens);
    time_optimizer(bench, *backend);
    std::printf(
        "{\"device\": \"%s\", \"tokens\": %lld, \"sum_of_kernels_milliseconds\": %.3f, "
        "\"tokens_per_second_of_kernels\": %.0f}\n",
        backend->name().c_str(), static_cast<long long>(tokens), bench.total() * 1e3,
        static_cast<double>(tokens) / bench.total());
    return 0;
}
