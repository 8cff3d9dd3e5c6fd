// Key kernels, one call each, for counting their instructions under callgrind: a count hardly
// depends on what else a machine does, so a kernel that has become slower by doing more is seen on
// any machine. It says nothing about memory or instruction latency; the other benchmarks do.
//
//   valgrind --tool=callgrind --instr-atstart=no kernel_instructions [CASE ...]
//
// `../kernel_instructions.py` runs this and compares with the baseline. Each case runs once
// uncounted (scratch memory is taken then), and once counted into a dump with its name. One thread;
// AVX2, as valgrind knows no AVX-512. The first line of output names the compiler.
#include <valgrind/callgrind.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dispatch/select.h"
#include "tempra/tempra.h"

namespace tempra {
namespace {

class Cases {
  public:
    explicit Cases(std::set<std::string> wanted) : wanted_(std::move(wanted)) {}

    template <class Call>
    void run(const std::string& name, const Call& call) {
        if (!wanted_.empty() && !wanted_.contains(name)) return;
        call();
        CALLGRIND_START_INSTRUMENTATION;
        CALLGRIND_ZERO_STATS;
        call();
        CALLGRIND_DUMP_STATS_AT(name.c_str());
        CALLGRIND_STOP_INSTRUMENTATION;
    }

    // A kernel, whose status is checked.
    template <class Call>
    void kernel(const std::string& name, DType dtype, const Call& call) {
        const std::string full = name + "/" + name_of(dtype);
        run(full, [&] { check_status(call(), full.c_str(), dtype); });
    }

  private:
    std::set<std::string> wanted_;
};

Tensor values(const Shape& sizes, DType dtype = DType::f32, double scale = 1) {
    return cast(normal(sizes, 0, scale), dtype);
}

// [count] of i32, scattered over [0, limit).
Tensor indices(std::int64_t count, std::int64_t limit) {
    Tensor result = zeros({count}, DType::i32);
    for (std::int64_t i = 0; i < count; ++i) {
        result.data_as<std::int32_t>()[i] = static_cast<std::int32_t>(i * 7919 % limit);
    }
    return result;
}

void products(Cases& cases, const KernelTable& table, DType dtype) {
    constexpr std::int64_t kTokens = 144, kIn = 256, kOut = 192;
    const Tensor x = values({kTokens, kIn}, dtype), y = values({kTokens, kOut}, dtype);
    const Tensor weight = values({kOut, kIn}, dtype), bias = values({kOut}, dtype);
    const Tensor grad_weight = zeros({kOut, kIn}), inner = zeros({kTokens, kOut}, dtype);
    GemmArguments forward;
    forward.a = x.view(), forward.b = transpose(weight, 0, 1).view(), forward.c = y.view();
    forward.bias = bias.view();
    cases.kernel("product/forward", dtype, [&] { return table.gemm({}, forward); });
    forward.pre_activation = inner.view();
    forward.activation = Activation::gelu_tanh;
    cases.kernel("product/gelu", dtype, [&] { return table.gemm({}, forward); });
    GemmArguments input;
    input.a = y.view(), input.b = weight.view(), input.c = x.view();
    cases.kernel("product/input_gradient", dtype, [&] { return table.gemm({}, input); });
    GemmArguments of_weight;
    of_weight.a = transpose(y, 0, 1).view(), of_weight.b = x.view();
    of_weight.c = grad_weight.view(), of_weight.accumulate = 1;
    cases.kernel("product/weight_gradient", dtype, [&] { return table.gemm({}, of_weight); });
    GemmArguments one = forward;  // decoding: one row
    one.a = narrow(x, 0, 0, 1).view(), one.c = narrow(y, 0, 0, 1).view();
    one.pre_activation = {};
    cases.kernel("product/one_row", dtype, [&] { return table.gemm({}, one); });
    if (dtype == DType::bf16) {  // weights stay fp32 in training, and are rounded as they are read
        const Tensor wide = values({kOut, kIn});
        forward.b = transpose(wide, 0, 1).view();
        cases.kernel("product/fp32_weight", dtype, [&] { return table.gemm({}, forward); });
    }
}

void attention(Cases& cases, const KernelTable& table, DType dtype) {
    constexpr std::int64_t kTokens = 192, kHeads = 2, kWidth = 64;
    const Shape shape{kTokens, kHeads, kWidth};
    const Tensor q = values(shape, dtype), k = values(shape, dtype), v = values(shape, dtype);
    const Tensor out = values(shape, dtype), statistics = zeros({kHeads, kTokens});
    const Tensor grad_out = values(shape, dtype), grad_q = zeros(shape, dtype);
    const Tensor grad_k = zeros(shape, dtype), grad_v = zeros(shape, dtype);
    Tensor offsets = zeros({2}, DType::i32);
    offsets.data_as<std::int32_t>()[1] = kTokens;
    AttentionBackwardArguments b;
    b.forward.q = q.view(), b.forward.k = k.view(), b.forward.v = v.view();
    b.forward.out = out.view(), b.forward.log_sum_exp = statistics.view();
    b.forward.offsets_q = offsets.view(), b.forward.offsets_k = offsets.view();
    b.forward.scale = 0.125;
    b.forward.max_query_length = b.forward.max_key_length = kTokens;
    b.grad_out = grad_out.view();
    b.grad_q = grad_q.view(), b.grad_k = grad_k.view(), b.grad_v = grad_v.view();
    cases.kernel("attention/forward", dtype, [&] { return table.attention({}, b.forward); });
    cases.kernel("attention/backward", dtype, [&] { return table.attention_backward({}, b); });
}

void norms(Cases& cases, const KernelTable& table, DType dtype) {
    const Shape shape{256, 384};
    const Tensor x = values(shape, dtype), y = zeros(shape, dtype), dy = values(shape, dtype);
    const Tensor dx = zeros(shape, dtype), weight = values({384}), bias = values({384});
    const Tensor dweight = zeros({384}), dbias = zeros({384});
    const Tensor mean = zeros({256}), rstd = zeros({256});
    cases.kernel("layer_norm/forward", dtype, [&] {
        return table.layer_norm({}, x.view(), weight.view(), bias.view(), 1e-5, y.view(),
                                mean.view(), rstd.view());
    });
    cases.kernel("layer_norm/backward", dtype, [&] {
        return table.layer_norm_backward({}, dy.view(), x.view(), weight.view(), mean.view(),
                                         rstd.view(), dx.view(), dweight.view(), dbias.view());
    });
    cases.kernel("rms_norm/forward", dtype, [&] {
        return table.rms_norm({}, x.view(), weight.view(), 1e-5, y.view(), rstd.view());
    });
    cases.kernel("rms_norm/backward", dtype, [&] {
        return table.rms_norm_backward({}, dy.view(), x.view(), weight.view(), rstd.view(),
                                       dx.view(), dweight.view());
    });
    cases.kernel("softmax/forward", dtype,
                 [&] { return table.softmax({}, x.view(), 0, y.view()); });
}

void elementwise(Cases& cases, const KernelTable& table, DType dtype) {
    const Shape shape{256, 384};
    const Tensor x = values(shape, dtype), up = values(shape, dtype), dy = values(shape, dtype);
    const Tensor y = zeros(shape, dtype), dx = zeros(shape, dtype), dup = zeros(shape, dtype);
    cases.kernel("swiglu/forward", dtype,
                 [&] { return table.swiglu({}, x.view(), up.view(), y.view()); });
    cases.kernel("swiglu/backward", dtype, [&] {
        return table.swiglu_backward({}, x.view(), up.view(), dy.view(), dx.view(), dup.view());
    });
    cases.kernel("add", dtype,
                 [&] { return table.binary({}, BinaryOp::add, x.view(), up.view(), y.view()); });
    cases.kernel("gelu/backward", dtype, [&] {
        return table.unary_backward({}, UnaryOp::gelu_tanh, x.view(), y.view(), dy.view(),
                                    dx.view());
    });
    cases.kernel("copy/transposed", dtype, [&] {
        return table.copy({}, transpose(x, 0, 1).view(), reshape(y, {384, 256}).view());
    });
    cases.kernel("dropout", dtype,
                 [&] { return table.dropout({}, x.view(), 0.1, PhiloxKey{}, y.view()); });
    const Tensor positions = indices(256, 64);
    const Tensor cosines = values({64, 32}), sines = values({64, 32});
    const Tensor heads = reshape(x, {256, 6, 64}), turned = reshape(y, {256, 6, 64});
    cases.kernel("rotary", dtype, [&] {
        return table.rotary({}, heads.view(), positions.view(), cosines.view(), sines.view(), 0, 0,
                            turned.view());
    });
}

void vocabulary(Cases& cases, const KernelTable& table, DType dtype) {
    constexpr std::int64_t kTokens = 96, kWidth = 64, kVocabulary = 1536;
    const Tensor hidden = values({kTokens, kWidth}, dtype);
    const Tensor weight = values({kVocabulary, kWidth}, DType::f32, 0.1);
    const Tensor grad_hidden = zeros({kTokens, kWidth}, dtype);
    const Tensor grad_weight = zeros({kVocabulary, kWidth});
    const Tensor labels = indices(kTokens, kVocabulary);
    const Tensor losses = zeros({kTokens}), statistics = zeros({kTokens});
    LinearCrossEntropyArguments a;
    a.hidden = hidden.view(), a.weight = weight.view(), a.labels = labels.view();
    a.losses = losses.view(), a.log_sum_exps = statistics.view();
    cases.kernel("linear_cross_entropy/forward", dtype,
                 [&] { return table.linear_cross_entropy({}, a); });
    a.grad_hidden = grad_hidden.view(), a.grad_weight = grad_weight.view();
    cases.kernel("linear_cross_entropy/gradients", dtype,
                 [&] { return table.linear_cross_entropy({}, a); });
    const Tensor rows = indices(2048, kVocabulary), looked_up = values({2048, kWidth}, dtype);
    cases.kernel("embedding/forward", dtype,
                 [&] { return table.embedding({}, weight.view(), rows.view(), looked_up.view()); });
    cases.kernel("embedding/backward", dtype, [&] {
        return table.embedding_backward({}, looked_up.view(), rows.view(), grad_weight.view());
    });
}

void optimizer(Cases& cases, const KernelTable& table) {
    constexpr std::int64_t kCount = 1 << 18;
    const Tensor p = values({kCount}), g = values({kCount}), m = zeros({kCount});
    const Tensor v = zeros({kCount}), low = zeros({kCount}, DType::bf16);
    const ArenaSegment segments[] = {{0, 200000, 0, 0}, {200000, kCount - 200000, 1, 0}};
    const AdamWGroup groups[] = {{1, 0.1F, 0.9F, 0.95F, 1e-8F}, {1, 0, 0.9F, 0.95F, 1e-8F}};
    StepScalars scalars{};
    scalars.step_count = 1;
    scalars.learning_rate = 1e-4F, scalars.gradient_scale = 1, scalars.clip_coefficient = 1;
    AdamWArguments a{p.data_as<float>(),
                     g.data_as<float>(),
                     m.data_as<float>(),
                     v.data_as<float>(),
                     nullptr,
                     segments,
                     2,
                     groups,
                     &scalars};
    cases.kernel("adamw", DType::f32, [&] { return table.adamw({}, a); });
    a.low_precision = low.data_as<bfloat16>();
    cases.kernel("adamw/bf16_copy", DType::f32, [&] { return table.adamw({}, a); });
    double sum = 0;
    cases.kernel("sum_of_squares", DType::f32,
                 [&] { return table.sum_of_squares({}, a.gradients, segments, 2, &sum); });
}

// What is not arithmetic: the cost of an operation and its node, plans, files.
void around(Cases& cases) {
    const Tensor x = values({4});
    cases.run("tape", [&] {
        Tensor leaf = zeros({4});
        leaf.set_requires_grad(true);
        Tensor y = leaf;
        for (int i = 0; i < 1000; ++i) y = add(y, x);
        backward(y, x);
    });
    std::vector<std::int64_t> lengths(50000);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        lengths[i] = static_cast<std::int64_t>(i * i * 2654435761U % 2047) + 1;
    }
    data::PackingOptions options;
    options.capacity = 2048;
    cases.run("packing/best_fit", [&] { (void)data::plan_packing(lengths, options); });
    const Tensor bytes = values({1 << 18});
    cases.run("crc32", [&] { (void)io::crc32(bytes.data(), bytes.bytes()); });
    std::string lines;
    for (int i = 0; i < 2000; ++i) {
        lines += R"({"text": "a line of some length, number )" + std::to_string(i) + "\"}\n";
    }
    cases.run("json_records", [&] {
        data::JsonRecordReader reader("lines");
        reader.feed(lines);
        reader.finish();
        data::JsonRecord record;
        while (reader.next(record)) {
        }
    });
}

}  // namespace
}  // namespace tempra

int main(int argc, char** argv) {
    using namespace tempra;
    set_num_threads(1);
    set_isa(cpu::Isa::avx2);
#if defined(__clang__)
    std::printf("clang %d.%d\n", __clang_major__, __clang_minor__);
#else
    std::printf("gcc %d.%d\n", __GNUC__, __GNUC_MINOR__);
#endif
    Cases cases(std::set<std::string>(argv + 1, argv + argc));
    const KernelTable& table = cpu_kernel_table(cpu::Isa::avx2);
    for (const DType dtype : {DType::f32, DType::bf16}) {
        products(cases, table, dtype);
        attention(cases, table, dtype);
        norms(cases, table, dtype);
        elementwise(cases, table, dtype);
        vocabulary(cases, table, dtype);
    }
    optimizer(cases, table);
    around(cases);
    return 0;
}
