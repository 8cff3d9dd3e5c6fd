// A tensor kept for the backward pass, with the version it had when it was saved.
#pragma once

#include "autograd/node.h"
#include "tempra/tensor.h"

namespace tempra {

class SavedTensor {
  public:
    SavedTensor() = default;
    // An input of the operation (its own place on the tape is kept), or an output, which is kept
    // without its node so that the node does not own itself.
    [[nodiscard]] static SavedTensor input(const Tensor& tensor);
    [[nodiscard]] static SavedTensor output(const Tensor& tensor);

    [[nodiscard]] bool defined() const { return tensor_.defined(); }
    // Raises Error, naming `operation`, when the tensor was written in place since it was saved.
    [[nodiscard]] const Tensor& get(const char* operation) const;
    // A saved output as part of the graph again, made by `node`.
    [[nodiscard]] Tensor get_output(Node& node, int output_index = 0) const;
    void reset() { tensor_ = Tensor(); }

  private:
    Tensor tensor_;
    std::uint64_t version_ = 0;
};

}  // namespace tempra
