// Rate of the matrix product on the shapes of one training step of the reference configs.
//
//   gemm_bench [config=NAME] [dtype=f32|bf16] [layer=NAME] [kind=NAME] [isa=NAME] [threads=N]
//   [seconds=S] [cold]
//
// One line per product: median and best GFLOP/s of repeated calls. forward  y [tokens, out] =
// x @ W^T + bias;  input  dx = dy @ W;  weight  dW (f32) += dy^T @ x. Weights are fp32, as a
// training step has them. `cold` gives each call another copy of W and dW, so that these come from
// memory, as in a model of many layers.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "dispatch/select.h"
#include "memory/caching_pool.h"
#include "tempra/threads.h"

namespace tempra {
namespace {

struct Config {
    const char* name;
    std::int64_t tokens, width, vocabulary;
};
constexpr Config kConfigs[] = {{"ref-nano", 768, 128, 65},
                               {"ref-baby", 16384, 384, 65},
                               {"ref-mid", 2048, 512, 8192},
                               {"ref-gpt2", 1024, 768, 50304},
                               {"decode", 1, 2048, 8192}};

struct Options {
    std::string config, dtype, layer, kind;  // empty: all
    double seconds = 0.15;
    bool cold = false;
};

// Pages touched and filled with small varied values.
class Buffer {
  public:
    Buffer(DType dtype, std::int64_t rows, std::int64_t columns)
        : dtype_(dtype), rows_(rows), columns_(columns) {
        data_ = pool_allocate(bytes());  // in the pages that tensors have
        if (data_ == nullptr) std::abort();
        std::uint32_t state = 12345;
        for (std::int64_t i = 0; i < rows * columns; ++i) {
            state = state * 1664525U + 1013904223U;
            const float value = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
            if (dtype == DType::bf16) {
                static_cast<bfloat16*>(data_)[i] = bfloat16::from_float(value);
            } else {
                static_cast<float*>(data_)[i] = value;
            }
        }
    }
    ~Buffer() {
        if (data_ != nullptr) pool_release(data_, bytes());
    }
    Buffer(Buffer&& other) noexcept
        : dtype_(other.dtype_),
          rows_(other.rows_),
          columns_(other.columns_),
          data_(std::exchange(other.data_, nullptr)) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer& operator=(Buffer&&) = delete;

    [[nodiscard]] TensorView view(bool transposed = false) const {
        TensorView v;
        v.data = data_;
        v.dtype = dtype_;
        v.dimensions = 2;
        v.sizes[0] = transposed ? columns_ : rows_;
        v.sizes[1] = transposed ? rows_ : columns_;
        v.strides[0] = transposed ? 1 : columns_;
        v.strides[1] = transposed ? columns_ : 1;
        return v;
    }

  private:
    [[nodiscard]] std::int64_t bytes() const { return rows_ * columns_ * size_of(dtype_); }

    DType dtype_;
    std::int64_t rows_, columns_;
    void* data_;
};

void measure(const Config& config, const char* layer, const char* kind, DType dtype,
             const std::vector<GemmArguments>& calls, const KernelTable& table,
             const Options& options) {
    const GemmArguments& arguments = calls.front();
    if (!options.layer.empty() && options.layer != layer) return;
    if (!options.kind.empty() && options.kind != kind) return;
    using Clock = std::chrono::steady_clock;
    const double flops = 2.0 * static_cast<double>(arguments.a.size(-2)) *
                         static_cast<double>(arguments.a.size(-1)) *
                         static_cast<double>(arguments.c.size(-1));
    std::vector<double> samples;
    for (const GemmArguments& call : calls) check_status(table.gemm({}, call), "gemm", dtype);
    double total = 0;
    while (total < options.seconds || samples.size() < 3) {
        const auto begin = Clock::now();
        (void)table.gemm({}, calls[samples.size() % calls.size()]);
        samples.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        total += samples.back();
    }
    std::sort(samples.begin(), samples.end());
    const double median = samples[samples.size() / 2];
    std::printf(
        "%-9s %-5s %-8s %-5s %6lld %6lld %6lld  %7.1f GFLOP/s (best %7.1f) %9.1f us\n", config.name,
        layer, kind, name_of(dtype), static_cast<long long>(arguments.a.size(-2)),
        static_cast<long long>(arguments.c.size(-1)), static_cast<long long>(arguments.a.size(-1)),
        flops / median * 1e-9, flops / samples.front() * 1e-9, median * 1e6);
    std::fflush(stdout);
}

constexpr std::int64_t kColdBytes = std::int64_t{96} << 20;  // more than the caches hold

void run_layer(const Config& config, const char* layer, std::int64_t in, std::int64_t out,
               DType dtype, const KernelTable& table, const Options& options) {
    const bool decodes = config.tokens == 1;  // from a bf16 copy of the weights
    const DType weight_dtype = decodes ? dtype : DType::f32;
    const std::int64_t copies =
        options.cold ? kColdBytes / (in * out * size_of(weight_dtype)) + 2 : 1;
    std::vector<Buffer> weights, weight_gradients;
    for (std::int64_t i = 0; i < copies; ++i) {
        weights.emplace_back(weight_dtype, out, in);
        weight_gradients.emplace_back(DType::f32, out, in);
    }
    const Buffer x(dtype, config.tokens, in), y(dtype, config.tokens, out), bias(dtype, 1, out);
    const Buffer gradient(dtype, config.tokens, out), activation(dtype, config.tokens, in);
    std::vector<GemmArguments> forward(weights.size()), input(weights.size());
    std::vector<GemmArguments> of_weight(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        GemmArguments& f = forward[i];
        f.a = x.view(), f.b = weights[i].view(true), f.c = y.view();
        f.bias = bias.view();
        f.bias.dimensions = 1, f.bias.sizes[0] = out, f.bias.strides[0] = 1;
        input[i].a = y.view(), input[i].b = weights[i].view(), input[i].c = x.view();
        of_weight[i].a = gradient.view(true), of_weight[i].b = activation.view();
        of_weight[i].c = weight_gradients[i].view();
        of_weight[i].accumulate = 1;
    }
    measure(config, layer, "forward", dtype, forward, table, options);
    measure(config, layer, "input", dtype, input, table, options);
    measure(config, layer, "weight", dtype, of_weight, table, options);
}

void run(const Options& options, const KernelTable& table) {
    for (const Config& config : kConfigs) {
        if (!options.config.empty() && options.config != config.name) continue;
        for (const DType dtype : {DType::f32, DType::bf16}) {
            if (!options.dtype.empty() && options.dtype != name_of(dtype)) continue;
            const std::int64_t width = config.width;
            run_layer(config, "qkv", width, 3 * width, dtype, table, options);
            run_layer(config, "proj", width, width, dtype, table, options);
            run_layer(config, "fc", width, 4 * width, dtype, table, options);
            run_layer(config, "fc2", 4 * width, width, dtype, table, options);
            run_layer(config, "head", width, config.vocabulary, dtype, table, options);
        }
    }
}

}  // namespace
}  // namespace tempra

int main(int argc, char** argv) {
    tempra::Options options;
    tempra::cpu::Isa isa = tempra::current_isa();
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const std::size_t equals = argument.find('=');
        const std::string key = argument.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
        if (key == "config") {
            options.config = value;
        } else if (key == "dtype") {
            options.dtype = value;
        } else if (key == "layer") {
            options.layer = value;
        } else if (key == "kind") {
            options.kind = value;
        } else if (key == "isa") {
            isa = tempra::cpu::isa_from_name(value);
        } else if (argument == "cold") {
            options.cold = true;
        } else if (key == "threads") {
            tempra::set_num_threads(std::atoi(value.c_str()));
        } else if (key == "seconds") {
            options.seconds = std::atof(value.c_str());
        } else {
            std::fprintf(stderr,
                         "usage: gemm_bench [config=NAME] [dtype=f32|bf16] [layer=NAME] "
                         "[kind=NAME] [isa=NAME] [threads=N] [seconds=S] [cold]\n");
            return 2;
        }
    }
    std::printf("isa %s, %d threads\n", tempra::cpu::name_of(isa), tempra::num_threads());
    tempra::run(options, tempra::cpu_kernel_table(isa));
    return 0;
}
