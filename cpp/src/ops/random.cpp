// Random fills, draws and dropout. Every operation takes one ordinal of its generator, whatever its
// size, so that what one operation draws does not move the others.
#include "tempra/random.h"

#include <cmath>

#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/in_place.h"
#include "ops/philox_key.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

PhiloxKey take_key(Generator* generator, Device device) {
    return take_key(generator != nullptr ? *generator : default_generator(), device);
}

void fill(const char* operation, const Tensor& tensor, RandomDistribution distribution, double a,
          double b, Generator* generator) {
    TEMPRA_CHECK(DtypeError, is_floating(tensor.dtype()),
                 "{}: dtype {} given; needs a floating-point dtype", operation, tensor.dtype());
    TEMPRA_CHECK(ConfigError, std::isfinite(a) && std::isfinite(b),
                 "{}: parameters {} and {} given; they must be finite", operation, a, b);
    const PhiloxKey key = take_key(generator, tensor.device());
    launch(operation, tensor, &KernelTable::random_fill, distribution, a, b, key, tensor.view());
}

// [rows, the rest]: the rows of the counter.
Tensor as_counter_rows(const Tensor& x) {
    const std::int64_t rows = x.dimensions() < 2 ? 1 : x.size(0);
    return reshape(contiguous(x), {rows, rows == 0 ? 0 : x.numel() / rows});
}

Tensor masked(const Tensor& x, double probability, const PhiloxKey& key);

struct DropoutNode : PrimitiveNode {
    double probability = 0;
    PhiloxKey key;
    [[nodiscard]] const char* name() const override { return "dropout"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {masked(grads[0], probability, key)};
    }
    void release() override {}
};

Tensor masked(const Tensor& x, double probability, const PhiloxKey& key) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    {
        const GradModeGuard off(false);
        launch("dropout", x, &KernelTable::dropout, as_counter_rows(x).view(), probability, key,
               as_counter_rows(result).view());
    }
    if (should_record({&x})) {
        auto node = make_node<DropoutNode>({&x});
        node->probability = probability;
        node->key = key;
        attach(result, node);
    }
    return result;
}

}  // namespace

GeneratorState Generator::state() const {
    const std::lock_guard lock(mutex_);
    return state_;
}

void Generator::set_state(const GeneratorState& state) {
    const std::lock_guard lock(mutex_);
    state_ = state;
}

void Generator::set_seed(std::uint64_t seed) {
    const std::lock_guard lock(mutex_);
    state_.seed = seed;
    state_.step = 0;
    state_.ordinal = 0;
}

void Generator::set_step(std::uint32_t step) {
    const std::lock_guard lock(mutex_);
    state_.step = step;
    state_.ordinal = 0;
}

void Generator::set_row_offset(std::uint32_t row_offset) {
    const std::lock_guard lock(mutex_);
    state_.row_offset = row_offset;
}

void Generator::read_step_from(const Tensor& step) {
    TEMPRA_CHECK(DtypeError, !step.defined() || step.dtype() == DType::i32,
                 "generator: the step is to be read from {}; needs i32", step.dtype());
    TEMPRA_CHECK(ShapeError, !step.defined() || step.numel() == 1,
                 "generator: the step is to be read from a tensor {}; needs one number",
                 step.sizes());
    TEMPRA_CHECK(DeviceError, !step.defined() || step.device().type == DeviceType::cuda,
                 "generator: the step is to be read from {}; needs a CUDA device", step.device());
    const std::lock_guard lock(mutex_);
    step_on_device_ = step;
}

Tensor Generator::step_on_device() const {
    const std::lock_guard lock(mutex_);
    return step_on_device_;
}

GeneratorState Generator::take() {
    const std::lock_guard lock(mutex_);
    const GeneratorState current = state_;
    // Past 2^32 operations a step the numbers would repeat silently.
    TEMPRA_CHECK(Error, ++state_.ordinal != 0,
                 "generator: more than 2^32 random operations in step {}; call set_step",
                 state_.step);
    return current;
}

PhiloxKey take_key(Generator& generator, Device device) {
    const GeneratorState state = generator.take();
    PhiloxKey key{state.seed, state.step, state.ordinal, state.row_offset};
    const Tensor step = generator.step_on_device();
    if (step.defined() && step.device() == device) {
        key.step_on_device = step.data_as<const std::uint32_t>();
    }
    return key;
}

Generator& default_generator() {
    static Generator generator;
    return generator;
}

void manual_seed(std::uint64_t seed) { default_generator().set_seed(seed); }

void uniform_(Tensor tensor, double low, double high, Generator* generator) {
    check_writable("uniform_", tensor);
    TEMPRA_CHECK(ConfigError, low <= high, "uniform: low {} is above high {}", low, high);
    fill("uniform_", tensor, RandomDistribution::uniform, low, high, generator);
    tensor.bump_version();
}

void normal_(Tensor tensor, double mean, double standard_deviation, Generator* generator) {
    check_writable("normal_", tensor);
    TEMPRA_CHECK(ConfigError, standard_deviation >= 0, "normal: standard deviation {} is negative",
                 standard_deviation);
    fill("normal_", tensor, RandomDistribution::normal, mean, standard_deviation, generator);
    tensor.bump_version();
}

Tensor uniform(const Shape& sizes, double low, double high, DType dtype, Generator* generator,
               Device device) {
    Tensor result = empty(sizes, dtype, device);
    uniform_(result, low, high, generator);
    return result;
}

Tensor normal(const Shape& sizes, double mean, double standard_deviation, DType dtype,
              Generator* generator, Device device) {
    Tensor result = empty(sizes, dtype, device);
    normal_(result, mean, standard_deviation, generator);
    return result;
}

Tensor categorical(const Tensor& logits, Generator* generator) {
    TEMPRA_CHECK(ShapeError, logits.dimensions() >= 1 && logits.size(-1) > 0,
                 "categorical: logits of shape {}; needs [..., classes] with classes > 0",
                 logits.sizes());
    TEMPRA_CHECK(DtypeError, is_floating(logits.dtype()),
                 "categorical: logits of dtype {}; needs a floating-point dtype", logits.dtype());
    const GradModeGuard off(false);
    const DType dtype = logits.dtype() == DType::f16 ? DType::f32 : logits.dtype();
    Shape sizes = logits.sizes();
    sizes.erase(sizes.dimensions() - 1);
    const Tensor result = empty(sizes, DType::i64, logits.device());
    const Tensor rows = reshape(contiguous(cast(logits, dtype)), {sizes.numel(), logits.size(-1)});
    launch("categorical", rows, &KernelTable::categorical, rows.view(),
           take_key(generator, logits.device()), reshape(result, {sizes.numel()}).view());
    return result;
}

Tensor dropout(const Tensor& x, double probability, Generator* generator) {
    TEMPRA_CHECK(ConfigError, probability >= 0 && probability < 1,
                 "dropout: probability {} given; needs 0 <= probability < 1", probability);
    TEMPRA_CHECK(DtypeError, is_floating(x.dtype()),
                 "dropout: dtype {} given; needs a floating-point dtype", x.dtype());
    // The ordinal is taken in any case: switching dropout off does not move later draws.
    const PhiloxKey key = take_key(generator, x.device());
    return probability == 0 ? x : masked(x, probability, key);
}

}  // namespace tempra
