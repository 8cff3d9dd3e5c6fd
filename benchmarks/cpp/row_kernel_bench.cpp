// Bandwidth of the row kernels, the optimizer kernels and linear cross-entropy, beside the memory
// bandwidth measured in the same run.
//
//   row_kernel_bench [case=NAME] [dtype=f32|bf16] [isa=NAME] [threads=N] [seconds=S]
//                    [chunk_rows=N]
//
// One line per case: median GB/s of the bytes the kernel must move, and percent of the best rate of
// three plain loops (copy, in-place scaling, reading) over arrays far larger than the caches. Cases
// named "-model" are the size of one GPT-2 layer's activations, warm in cache where they fit, so
// they can exceed 100 %; the others do not fit any cache. linear_cross_entropy is in GFLOP/s.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "dispatch/select.h"
#include "tempra/threads.h"

namespace tempra {
namespace {

struct Options {
    std::string only, dtype;
    double seconds = 0.5;
    std::int64_t chunk_rows = 0;
};

class Buffer {
  public:
    Buffer(DType dtype, std::int64_t rows, std::int64_t columns, float scale = 1)
        : dtype_(dtype), rows_(rows), columns_(columns) {
        const auto bytes =
            static_cast<std::size_t>((rows * columns * size_of(dtype) + 63) / 64 * 64);
        data_ = std::aligned_alloc(64, bytes);
        if (data_ == nullptr) std::abort();
        parallel_for(rows * columns, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
            auto state = static_cast<std::uint32_t>(begin) + 12345;
            for (std::int64_t i = begin; i < end; ++i) {
                state = state * 1664525U + 1013904223U;
                set(i, scale * (static_cast<float>(state >> 8) * 0x1p-24F - 0.5F));
            }
        });
    }
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    [[nodiscard]] TensorView view() const {
        TensorView v;
        v.data = data_;
        v.dtype = dtype_;
        v.dimensions = 2;
        v.sizes[0] = rows_;
        v.sizes[1] = columns_;
        v.strides[0] = columns_;
        v.strides[1] = 1;
        return v;
    }
    [[nodiscard]] TensorView vector_view() const {
        TensorView v = view();
        v.dimensions = 1;
        v.sizes[0] = rows_ * columns_;
        v.strides[0] = 1;
        return v;
    }
    template <class T>
    [[nodiscard]] T* as() const {
        return static_cast<T*>(data_);
    }

  private:
    void set(std::int64_t i, float value) {
        switch (dtype_) {
            case DType::bf16: as<bfloat16>()[i] = bfloat16::from_float(value); break;
            case DType::i32: as<std::int32_t>()[i] = static_cast<std::int32_t>(i); break;
            default: as<float>()[i] = value;
        }
    }

    DType dtype_;
    std::int64_t rows_, columns_;
    void* data_ = nullptr;
};

template <class Body>
double median_seconds(double seconds, const Body& body) {
    using Clock = std::chrono::steady_clock;
    body();
    std::vector<double> samples;
    double total = 0;
    while (total < seconds || samples.size() < 3) {
        const auto begin = Clock::now();
        body();
        samples.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        total += samples.back();
    }
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

// Best of three loops over 256 MB arrays, in bytes per second.
double memory_bandwidth(double seconds) {
    constexpr std::int64_t kCount = 64 << 20, kGrain = 65536;
    const Buffer a(DType::f32, 1, kCount), b(DType::f32, 1, kCount);
    const double bytes = 4.0 * kCount;
    const double copy =
        2 * bytes / median_seconds(seconds, [&] {
            parallel_for(kCount, kGrain * 16, [&](std::int64_t begin, std::int64_t end) {
                std::memcpy(b.as<float>() + begin, a.as<float>() + begin,
                            static_cast<std::size_t>(end - begin) * sizeof(float));
            });
        });
    const double scale =
        2 * bytes / median_seconds(seconds, [&] {
            parallel_for(kCount, kGrain, [&](std::int64_t begin, std::int64_t end) {
                float* p = a.as<float>();
                for (std::int64_t i = begin; i < end; ++i) p[i] *= 0.9999F;
            });
        });
    float sums[kCount / kGrain];
    const double read = bytes / median_seconds(seconds, [&] {
                            parallel_for(kCount, kGrain, [&](std::int64_t begin, std::int64_t end) {
                                std::uint32_t sum[16] = {};
                                const auto* p = a.as<std::uint32_t>();
                                for (std::int64_t i = begin; i < end; i += 16) {
                                    for (int k = 0; k < 16; ++k) sum[k] += p[i + k];
                                }
                                std::uint32_t total = 0;
                                for (const std::uint32_t s : sum) total += s;
                                sums[begin / kGrain] = static_cast<float>(total);
                            });
                        });
    std::printf("memory: copy %.1f, scale in place %.1f, read %.1f GB/s\n", copy * 1e-9,
                scale * 1e-9, read * 1e-9);
    return std::max({copy, scale, read});
}

const char* unary_name(UnaryOp op) {
    switch (op) {
        case UnaryOp::exp: return "exp";
        case UnaryOp::tanh: return "tanh";
        case UnaryOp::sigmoid: return "sigmoid";
        case UnaryOp::silu: return "silu";
        case UnaryOp::gelu: return "gelu";
        default: return "gelu_tanh";
    }
}

class Bench {
  public:
    Bench(const Options& options, const KernelTable& table)
        : options_(options), table_(table), peak_(memory_bandwidth(options.seconds / 2)) {}

    void run() {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            if (!options_.dtype.empty() && options_.dtype != name_of(dtype)) continue;
            rows(dtype, "", 32768, 1024);
            rows(dtype, "-model", 1024, 768);
            loss(dtype, 1024, 768, 50304);
            loss(dtype, 2048, 512, 8192);
        }
        optimizer(std::int64_t{64} << 20);
    }

  private:
    [[nodiscard]] bool wanted(const std::string& name) const {
        return options_.only.empty() || name.find(options_.only) == 0;
    }

    template <class Body>
    void report(const std::string& name, const char* dtype, double bytes, const Body& body) {
        if (!wanted(name)) return;
        const double seconds = median_seconds(options_.seconds, body);
        std::printf("%-28s %-5s %7.2f GB/s  %5.1f %%  %10.1f us\n", name.c_str(), dtype,
                    bytes / seconds * 1e-9, 100 * bytes / seconds / peak_, seconds * 1e6);
        std::fflush(stdout);
    }

    void rows(DType dtype, const std::string& suffix, std::int64_t count, std::int64_t columns) {
        const Buffer x(dtype, count, columns, 4), y(dtype, count, columns),
            dy(dtype, count, columns), dx(dtype, count, columns), up(dtype, count, columns),
            dup(dtype, count, columns);
        const Buffer weight(DType::f32, 1, columns), bias(DType::f32, 1, columns),
            dweight(DType::f32, 1, columns), dbias(DType::f32, 1, columns);
        const Buffer mean(DType::f32, count, 1), rstd(DType::f32, count, 1);
        const Buffer positions(DType::i32, count, 1), tables(DType::f32, count, 32);
        const double array = static_cast<double>(count * columns * size_of(dtype));
        const char* name = name_of(dtype);
        const KernelContext context;
        report("softmax" + suffix, name, 2 * array,
               [&] { (void)table_.softmax(context, x.view(), 0, y.view()); });
        report("log_softmax" + suffix, name, 2 * array,
               [&] { (void)table_.softmax(context, x.view(), 1, y.view()); });
        report("softmax_backward" + suffix, name, 3 * array,
               [&] { (void)table_.softmax_backward(context, y.view(), dy.view(), 0, dx.view()); });
        report("layer_norm" + suffix, name, 2 * array, [&] {
            (void)table_.layer_norm(context, x.view(), weight.vector_view(), bias.vector_view(),
                                    1e-5, y.view(), mean.vector_view(), rstd.vector_view());
        });
        report("layer_norm_backward" + suffix, name, 3 * array, [&] {
            (void)table_.layer_norm_backward(context, dy.view(), x.view(), weight.vector_view(),
                                             mean.vector_view(), rstd.vector_view(), dx.view(),
                                             dweight.vector_view(), dbias.vector_view());
        });
        report("rms_norm" + suffix, name, 2 * array, [&] {
            (void)table_.rms_norm(context, x.view(), weight.vector_view(), 1e-5, y.view(),
                                  rstd.vector_view());
        });
        report("rms_norm_backward" + suffix, name, 3 * array, [&] {
            (void)table_.rms_norm_backward(context, dy.view(), x.view(), weight.vector_view(),
                                           rstd.vector_view(), dx.view(), dweight.vector_view());
        });
        report("swiglu" + suffix, name, 3 * array,
               [&] { (void)table_.swiglu(context, x.view(), up.view(), y.view()); });
        report("swiglu_backward" + suffix, name, 5 * array, [&] {
            (void)table_.swiglu_backward(context, x.view(), up.view(), dy.view(), dx.view(),
                                         dup.view());
        });
        for (const UnaryOp op : {UnaryOp::exp, UnaryOp::tanh, UnaryOp::sigmoid, UnaryOp::silu,
                                 UnaryOp::gelu, UnaryOp::gelu_tanh}) {
            report(std::string(unary_name(op)) + suffix, name, 2 * array,
                   [&] { (void)table_.unary(context, op, x.view(), y.view()); });
            report(std::string(unary_name(op)) + "_backward" + suffix, name, 3 * array, [&] {
                (void)table_.unary_backward(context, op, x.view(), y.view(), dy.view(), dx.view());
            });
        }
        TensorView heads = x.view(), heads_out = y.view();
        for (TensorView* v : {&heads, &heads_out}) {
            v->dimensions = 3;
            v->sizes[1] = columns / 64;
            v->sizes[2] = 64;
            v->strides[1] = 64;
            v->strides[2] = 1;
        }
        for (const bool interleaved : {false, true}) {
            report((interleaved ? "rotary_interleaved" : "rotary") + suffix, name, 2 * array, [&] {
                (void)table_.rotary(context, heads, positions.vector_view(), tables.view(),
                                    tables.view(), interleaved, 0, heads_out);
            });
        }
    }

    void loss(DType dtype, std::int64_t tokens, std::int64_t width, std::int64_t vocabulary) {
        const std::string name = "linear_cross_entropy " + std::to_string(tokens) + "x" +
                                 std::to_string(width) + "x" + std::to_string(vocabulary);
        if (!wanted(name)) return;
        const Buffer hidden(dtype, tokens, width), weight(dtype, vocabulary, width, 0.1F),
            dhidden(dtype, tokens, width), dweight(DType::f32, vocabulary, width),
            losses(DType::f32, tokens, 1), lse(DType::f32, tokens, 1),
            labels(DType::i32, tokens, 1);
        LinearCrossEntropyArguments a;
        a.hidden = hidden.view(), a.weight = weight.view(), a.labels = labels.vector_view();
        a.losses = losses.vector_view(), a.log_sum_exps = lse.vector_view();
        a.chunk_rows = options_.chunk_rows;
        const double product = 2.0 * static_cast<double>(tokens * width * vocabulary);
        for (const bool backward : {false, true}) {
            if (backward) a.grad_hidden = dhidden.view(), a.grad_weight = dweight.view();
            const double seconds =
                median_seconds(options_.seconds, [&] { (void)table_.linear_cross_entropy({}, a); });
            std::printf("%s %s %s %.1f GFLOP/s  %.1f ms\n", name.c_str(), name_of(dtype),
                        backward ? "with gradients" : "forward",
                        (backward ? 3 : 1) * product / seconds * 1e-9, seconds * 1e3);
            std::fflush(stdout);
        }
    }

    void optimizer(std::int64_t count) {
        if (!wanted("adamw") && !wanted("sum_of_squares")) return;
        const Buffer p(DType::f32, 1, count), g(DType::f32, 1, count), m(DType::f32, 1, count, 0),
            v(DType::f32, 1, count, 0), low(DType::bf16, 1, count);
        // Alternating large and small parameters, as in a model.
        std::vector<ArenaSegment> segments;
        for (std::int64_t offset = 0; offset < count;) {
            const std::int64_t wished = segments.size() % 2 == 0 ? 590000 : 768;
            const std::int64_t length = std::min(wished, count - offset);
            segments.push_back({offset, length, static_cast<std::int32_t>(segments.size() % 2), 0});
            offset += (length + 15) / 16 * 16;
        }
        const AdamWGroup groups[] = {{1, 0.1F, 0.9F, 0.95F, 1e-8F}, {1, 0, 0.9F, 0.95F, 1e-8F}};
        StepScalars scalars{};
        scalars.step_count = 1;
        scalars.learning_rate = 1e-4F;
        scalars.gradient_scale = 1;
        scalars.clip_coefficient = 1;
        AdamWArguments a{p.as<float>(),
                         g.as<float>(),
                         m.as<float>(),
                         v.as<float>(),
                         nullptr,
                         segments.data(),
                         static_cast<std::int64_t>(segments.size()),
                         groups,
                         &scalars};
        const auto elements = static_cast<double>(count);
        report("adamw 64M", "f32", 28 * elements, [&] { (void)table_.adamw({}, a); });
        a.low_precision = low.as<bfloat16>();
        report("adamw 64M with bf16 copy", "f32", 30 * elements,
               [&] { (void)table_.adamw({}, a); });
        double sum = 0;
        report("sum_of_squares 64M", "f32", 4 * elements, [&] {
            (void)table_.sum_of_squares({}, g.as<float>(), a.segments, a.segment_count, &sum);
        });
    }

    Options options_;
    const KernelTable& table_;
    double peak_;
};

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
        if (key == "case") {
            options.only = value;
        } else if (key == "dtype") {
            options.dtype = value;
        } else if (key == "isa") {
            isa = tempra::cpu::isa_from_name(value);
        } else if (key == "threads") {
            tempra::set_num_threads(std::atoi(value.c_str()));
        } else if (key == "seconds") {
            options.seconds = std::atof(value.c_str());
        } else if (key == "chunk_rows") {
            options.chunk_rows = std::atoll(value.c_str());
        } else {
            std::fprintf(stderr,
                         "usage: row_kernel_bench [case=NAME] [dtype=f32|bf16] [isa=NAME] "
                         "[threads=N] [seconds=S] [chunk_rows=N]\n");
            return 2;
        }
    }
    std::printf("isa %s, %d threads\n", tempra::cpu::name_of(isa), tempra::num_threads());
    tempra::Bench(options, tempra::cpu_kernel_table(isa)).run();
    return 0;
}
