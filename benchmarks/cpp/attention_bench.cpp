// Time and rate of attention, forward and backward, at the shapes of one layer of the reference
// configs, at a long context, and of decoding against a KV cache.
//
//   attention_bench [config=NAME] [dtype=f32|bf16] [isa=NAME] [threads=N] [seconds=S]
//
// q, k, v are slices of one qkv buffer, as in training. Causal products count half: forward
// 2 * queries * keys * head_dim * heads flops, backward 2.5 times that. Decoding is reported as
// bytes of keys and values read per second. One line per case: median of repeated calls.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "dispatch/select.h"
#include "tempra/threads.h"

namespace tempra {
namespace {

struct Config {
    const char* name;
    std::int64_t sequences, queries, keys, heads, kv_heads, head_dim;
    float dropout;
};
// "cached" is one sequence of ref-baby, which stays in the second-level cache: ref-baby's excess
// over 64 times its time is memory.
constexpr Config kConfigs[] = {{"ref-nano", 12, 64, 64, 4, 4, 32, 0.0F},
                               {"ref-baby", 64, 256, 256, 6, 6, 64, 0.0F},
                               {"ref-baby-dropout", 64, 256, 256, 6, 6, 64, 0.2F},
                               {"cached", 1, 256, 256, 6, 6, 64, 0.0F},
                               {"ref-mid", 4, 512, 512, 8, 8, 64, 0.0F},
                               {"ref-gpt2", 1, 1024, 1024, 12, 12, 64, 0.0F},
                               {"block-4096", 1, 4096, 4096, 12, 12, 64, 0.0F},
                               {"head-128", 1, 1024, 1024, 8, 8, 128, 0.0F},
                               {"head-96", 1, 1024, 1024, 8, 8, 96, 0.0F},
                               {"grouped", 2, 1024, 1024, 8, 2, 64, 0.0F},
                               {"decode", 1, 1, 4096, 12, 12, 64, 0.0F},
                               {"decode-batch", 8, 1, 2048, 8, 8, 64, 0.0F},
                               {"decode-grouped", 8, 1, 2048, 32, 8, 128, 0.0F}};

// Pages touched and filled with varied values in [-1, 1).
class Buffer {
  public:
    Buffer(std::int64_t count, DType dtype) : dtype_(dtype) {
        const auto bytes = static_cast<std::size_t>((count * size_of(dtype) + 63) / 64 * 64);
        data_ = static_cast<char*>(std::aligned_alloc(64, std::max<std::size_t>(bytes, 64)));
        if (data_ == nullptr) std::abort();
        std::uint32_t state = 12345;
        for (std::int64_t i = 0; i < count; ++i) {
            state = state * 1664525U + 1013904223U;
            const float value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
            if (dtype == DType::bf16) {
                reinterpret_cast<bfloat16*>(data_)[i] = bfloat16::from_float(value);
            } else if (dtype == DType::f32) {
                reinterpret_cast<float*>(data_)[i] = value;
            }
        }
    }
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    // [rows, heads, dim] with rows `stride` apart.
    [[nodiscard]] TensorView view(std::int64_t offset, std::int64_t rows, std::int64_t heads,
                                  std::int64_t dim, std::int64_t stride) const {
        TensorView v;
        v.data = data_ + offset * size_of(dtype_);
        v.dtype = dtype_;
        v.dimensions = 3;
        v.sizes[0] = rows, v.sizes[1] = heads, v.sizes[2] = dim;
        v.strides[0] = stride, v.strides[1] = dim, v.strides[2] = 1;
        return v;
    }

  private:
    DType dtype_;
    char* data_ = nullptr;
};

TensorView offsets_view(std::vector<std::int32_t>& offsets, std::int64_t length) {
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * length);
    }
    TensorView v;
    v.data = offsets.data();
    v.dtype = DType::i32;
    v.dimensions = 1;
    v.sizes[0] = static_cast<std::int64_t>(offsets.size());
    v.strides[0] = 1;
    return v;
}

template <class Call>
double median_seconds(double budget, const Call& call) {
    using Clock = std::chrono::steady_clock;
    const auto seconds_since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    call();
    std::vector<double> samples;
    const auto start = Clock::now();
    do {
        const auto before = Clock::now();
        call();
        samples.push_back(seconds_since(before));
    } while (seconds_since(start) < budget || samples.size() < 5);
    std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
    return samples[samples.size() / 2];
}

void measure(const Config& c, DType dtype, cpu::Isa isa, double budget) {
    const std::int64_t q_width = c.heads * c.head_dim, k_width = c.kv_heads * c.head_dim;
    const std::int64_t all = q_width + 2 * k_width;
    const std::int64_t q_rows = c.sequences * c.queries, k_rows = c.sequences * c.keys;
    const bool training = c.queries == c.keys;
    const Buffer qkv(k_rows * all, dtype), grad_qkv(training ? k_rows * all : 1, dtype);
    const Buffer out(q_rows * q_width, dtype), grad_out(q_rows * q_width, dtype);
    const Buffer statistics(c.heads * q_rows, DType::f32);
    std::vector<std::int32_t> offsets_q(static_cast<std::size_t>(c.sequences + 1));
    std::vector<std::int32_t> offsets_k(offsets_q.size());

    AttentionBackwardArguments b;
    AttentionArguments& a = b.forward;
    a.q = qkv.view(0, q_rows, c.heads, c.head_dim, all);
    // A KV cache is contiguous; in training keys are columns of the qkv buffer.
    a.k = qkv.view(q_width, k_rows, c.kv_heads, c.head_dim, training ? all : k_width);
    a.v = qkv.view(training ? q_width + k_width : q_width + k_rows * k_width, k_rows, c.kv_heads,
                   c.head_dim, training ? all : k_width);
    a.out = out.view(0, q_rows, c.heads, c.head_dim, q_width);
    a.log_sum_exp = statistics.view(0, c.heads, q_rows, 1, q_rows);
    a.log_sum_exp.dimensions = 2;
    a.log_sum_exp.strides[1] = 1;
    a.offsets_q = offsets_view(offsets_q, c.queries);
    a.offsets_k = offsets_view(offsets_k, c.keys);
    a.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
    a.dropout_probability = c.dropout;
    a.max_query_length = c.queries;
    a.max_key_length = c.keys;
    const KernelTable& table = cpu_kernel_table(isa);

    const double forward =
        median_seconds(budget, [&] { check_status(table.attention({}, a), "attention", dtype); });
    const double pairs = static_cast<double>(c.sequences * c.heads * c.queries * c.keys);
    const double flops = 2.0 * pairs * static_cast<double>(c.head_dim);
    std::printf("%-17s %-4s %-12s threads %d  ", c.name, name_of(dtype), cpu::name_of(isa),
                num_threads());
    if (!training) {
        const double bytes = 2.0 * static_cast<double>(k_rows * k_width * size_of(dtype));
        std::printf("forward %8.3f ms %6.1f GB/s\n", forward * 1e3, bytes / forward * 1e-9);
        return;
    }
    b.grad_out = grad_out.view(0, q_rows, c.heads, c.head_dim, q_width);
    b.grad_q = grad_qkv.view(0, q_rows, c.heads, c.head_dim, all);
    b.grad_k = grad_qkv.view(q_width, k_rows, c.kv_heads, c.head_dim, all);
    b.grad_v = grad_qkv.view(q_width + k_width, k_rows, c.kv_heads, c.head_dim, all);
    const double backward = median_seconds(budget, [&] {
        check_status(table.attention_backward({}, b), "attention_backward", dtype);
    });
    std::printf("forward %8.3f ms %6.1f GFLOP/s  backward %8.3f ms %6.1f GFLOP/s\n", forward * 1e3,
                flops / forward * 1e-9, backward * 1e3, 2.5 * flops / backward * 1e-9);
}

}  // namespace
}  // namespace tempra

int main(int argc, char** argv) {
    using namespace tempra;
    std::string config, dtype;
    double seconds = 0.3;
    cpu::Isa isa = cpu::detect_isa();
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const auto at = argument.find('=');
        const std::string key = argument.substr(0, at);
        const std::string value = at == std::string::npos ? "" : argument.substr(at + 1);
        if (key == "config") {
            config = value;
        } else if (key == "dtype") {
            dtype = value;
        } else if (key == "isa") {
            isa = cpu::isa_from_name(value);
        } else if (key == "threads") {
            set_num_threads(std::atoi(value.c_str()));
        } else if (key == "seconds") {
            seconds = std::atof(value.c_str());
        } else {
            std::fprintf(stderr, "attention_bench: unknown option '%s'\n", argv[i]);
            return 2;
        }
    }
    for (const Config& c : kConfigs) {
        if (!config.empty() && config != c.name) continue;
        for (const DType type : {DType::f32, DType::bf16}) {
            if (dtype.empty() || dtype == name_of(type)) measure(c, type, isa, seconds);
        }
    }
    return 0;
}
