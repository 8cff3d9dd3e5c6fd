// Random numbers as pure functions of a position: Philox counters of (seed, step, ordinal, row,
// element). A generator is only the few integers that say where the next operation stands.
#pragma once

#include <cstdint>
#include <mutex>

#include "tempra/tensor.h"

namespace tempra {

struct GeneratorState {
    std::uint64_t seed = 0;
    std::uint32_t step = 0;
    std::uint32_t ordinal = 0;     // operations that drew since the step began
    std::uint32_t row_offset = 0;  // first global sample row held by this process
};

// May be used from several threads; each operation takes one ordinal.
class Generator {
  public:
    explicit Generator(std::uint64_t seed = 0) { state_.seed = seed; }

    [[nodiscard]] GeneratorState state() const;
    void set_state(const GeneratorState& state);
    // Starts over at step 0, ordinal 0.
    void set_seed(std::uint64_t seed);
    // Starts a step: the ordinal counts from 0 again. A step number is to be used once.
    void set_step(std::uint32_t step);
    void set_row_offset(std::uint32_t row_offset);
    // From now on operations on the device of `step` (one i32 there) take the step that lies in it
    // when their kernels run, not the state's: so a captured graph draws other numbers with each
    // launch. An undefined tensor ends that.
    void read_step_from(const Tensor& step);
    [[nodiscard]] Tensor step_on_device() const;
    // The state for one operation, which takes the ordinal.
    [[nodiscard]] GeneratorState take();

  private:
    mutable std::mutex mutex_;
    GeneratorState state_;
    Tensor step_on_device_;
};

// The generator used where none is given; one a process.
[[nodiscard]] Generator& default_generator();
void manual_seed(std::uint64_t seed);

// Rows of the counter are the first dimension (a 0-d or 1-d tensor is one row), so that a slice of
// a batch, drawn with its row offset, has the numbers the whole batch has there.

// [low, high).
[[nodiscard]] Tensor uniform(const Shape& sizes, double low = 0, double high = 1,
                             DType dtype = DType::f32, Generator* generator = nullptr,
                             Device device = {});
[[nodiscard]] Tensor normal(const Shape& sizes, double mean = 0, double standard_deviation = 1,
                            DType dtype = DType::f32, Generator* generator = nullptr,
                            Device device = {});
void uniform_(Tensor tensor, double low = 0, double high = 1, Generator* generator = nullptr);
void normal_(Tensor tensor, double mean = 0, double standard_deviation = 1,
             Generator* generator = nullptr);
// One draw for each row of unnormalised log-probabilities [..., classes] (-inf: never) -> i64
// [...].
[[nodiscard]] Tensor categorical(const Tensor& logits, Generator* generator = nullptr);

// Zeroes elements with `probability` and divides the rest by 1 - probability. The backward pass
// draws the same mask again; nothing of the size of x is kept.
[[nodiscard]] Tensor dropout(const Tensor& x, double probability, Generator* generator = nullptr);

}  // namespace tempra
