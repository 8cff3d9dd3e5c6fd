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

// An input kept for the backward pass, or how to make it again where the operation that made it
// knows a cheap way: the output of a norm or of an activation then lives no longer than its use.
class SavedInput {
  public:
    SavedInput() = default;
    [[nodiscard]] static SavedInput of(const Tensor& tensor);
    [[nodiscard]] Tensor get(const char* operation) const;
    void reset();

  private:
    SavedTensor tensor_;
    std::function<Tensor()> recipe_;
};

}  // namespace tempra
