// Parameters and their gradients side by side in memory: one optimizer pass, one norm, one span to
// reduce between ranks or to write to a file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tempra/tensor.h"

namespace tempra {

class ParameterArena {
  public:
    struct Segment {
        std::string name;
        std::int64_t offset;  // elements
        std::int64_t length;
    };

    // Moves the f32 parameters, in this order and without gaps, into one buffer that their handles
    // then refer to; gives each a zero gradient that is part of a second one; with
    // `low_precision` (bf16 or f16) keeps a copy of that dtype in a third. Raises ConfigError for
    // no parameters, a repeated name or a tensor named twice, DtypeError for another dtype. When
    // the arena goes, its parameters keep their bytes and gradients and may move again.
    explicit ParameterArena(const std::vector<std::pair<std::string, Tensor>>& parameters,
                            std::optional<DType> low_precision = std::nullopt);

    [[nodiscard]] const Tensor& data() const { return data_; }
    [[nodiscard]] Tensor gradients() const;
    // Undefined without one.
    [[nodiscard]] const Tensor& low_precision_copy() const { return low_precision_copy_; }
    [[nodiscard]] const std::vector<Segment>& segments() const { return segments_; }
    [[nodiscard]] const std::vector<Tensor>& parameters() const { return parameters_; }

    // Raises Error when a parameter has been moved into a later arena: nothing done here would
    // reach it.
    void check_parameters() const;
    // On the CPU nothing is written where nobody holds a gradient: the first kernel to make one
    // writes over it, and what reads one sees zeros.
    void zero_gradients();
    // Brings the copy, if there is one, up to date with parameters that were written since.
    void refresh_low_precision_copy();
    // To be called after writing `data` or parameters as a whole: counts as a write to each
    // parameter and, with `copy_is_current`, says that the copy was written along.
    void mark_written(const std::vector<bool>& frozen, bool copy_is_current);

  private:
    [[nodiscard]] bool gradients_are_held() const;

    Tensor data_, gradients_, low_precision_copy_;
    std::vector<Segment> segments_;
    std::vector<Tensor> parameters_;
    // What parameters know their arena by: while it lives they cannot move elsewhere.
    std::shared_ptr<const void> lifetime_ = std::make_shared<char>();
};

}  // namespace tempra
