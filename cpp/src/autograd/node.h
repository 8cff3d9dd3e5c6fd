// A node of the tape: how to turn gradients of an operation's outputs into gradients of its inputs.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tempra/error.h"
#include "tempra/tensor.h"

namespace tempra {

class Node;

// Where the gradient of one input goes: to the node that made it, or into the leaf itself.
struct Edge {
    IntrusivePtr<Node> node;
    int output_index = 0;
    Tensor leaf;
    Shape sizes;
    DType dtype = DType::f32;
    Device device;

    [[nodiscard]] bool connected() const { return static_cast<bool>(node) || leaf.defined(); }
};

// Where a kernel leaves a parameter's gradient: added to `buffer`, or over whatever it holds.
struct GradientTarget {
    Tensor buffer;
    bool overwrite = false;
};

// What `backward` works with: the incoming gradients, which inputs want theirs, where to put it.
class BackwardContext {
  public:
    BackwardContext(const Node& node, std::vector<Tensor>& grad_outputs, std::vector<char> needed,
                    bool into_leaves, bool last_use);
    // Where the node has failed, gradients that it was to write over are zero and unwritten again.
    ~BackwardContext();
    BackwardContext(const BackwardContext&) = delete;
    BackwardContext& operator=(const BackwardContext&) = delete;
    // To be called when the node has written what it was to write.
    void finish() { being_written_.clear(); }

    // Gradient of output `i`; undefined when nothing was propagated to it.
    [[nodiscard]] const Tensor& grad_output(int i = 0) const { return grad_outputs_[i]; }
    // Same, given away: the caller may write into it where it alone holds it.
    [[nodiscard]] Tensor take_grad_output(int i = 0) { return std::move(grad_outputs_[i]); }
    // Same as `grad_output`, but contiguous.
    [[nodiscard]] Tensor contiguous_grad_output(int i = 0) const;
    [[nodiscard]] bool needs(int input) const { return needed_[input] != 0; }
    // Hands over the gradient of `input`.
    void set(int input, Tensor gradient);
    // An f32 (f64 for f64) buffer of the input's sizes to add the gradient to: the leaf's own
    // gradient (the arena) where that is allowed, else zeros, handed over when `backward` returns.
    [[nodiscard]] Tensor gradient_buffer(int input);
    // Same for a kernel that can also write over the buffer, all of it: a leaf's gradient that is
    // zero need then not be filled with zeros first.
    [[nodiscard]] GradientTarget gradient_target(int input);

    // False when the caller wants gradients as values and leaves must stay as they are.
    [[nodiscard]] bool into_leaves() const { return into_leaves_; }
    // True when the node is released after this call: it may write over what it alone has saved.
    [[nodiscard]] bool last_use() const { return last_use_; }
    [[nodiscard]] std::vector<Tensor>& results() { return results_; }

  private:
    const Node& node_;
    std::vector<Tensor>& grad_outputs_;
    std::vector<char> needed_;
    std::vector<Tensor> results_;
    std::vector<Tensor> being_written_;  // leaves
    bool into_leaves_;
    bool last_use_;
};

class Node : public RefCounted {
  public:
    Node();
    ~Node() override;

    [[nodiscard]] virtual const char* name() const = 0;
    // Gradients by kernels, recording nothing.
    virtual void backward(BackwardContext& context) = 0;
    // The same rule stated in operations, so that it can be differentiated again; undefined tensors
    // stand for gradients that are not needed. Fused nodes keep this default, which raises.
    [[nodiscard]] virtual std::vector<Tensor> backward_graph(
        const std::vector<Tensor>& grad_outputs, const std::vector<char>& needed);
    // Drops saved tensors once they have been used.
    virtual void release() = 0;
    // Makes the operation's output once more from what the node keeps anyway, bit for bit,
    // recording nothing; empty where that costs more than a pass or two over memory. It stays valid
    // when the node is released.
    [[nodiscard]] virtual std::function<Tensor()> output_recipe() const { return {}; }

    void add_input(const Tensor& tensor);
    [[nodiscard]] const std::vector<Edge>& edges() const { return edges_; }
    [[nodiscard]] std::uint64_t sequence() const { return sequence_; }

    bool released = false;  // walking a released node again is an error that names it
    int outputs = 1;

  private:
    std::vector<Edge> edges_;
    std::uint64_t sequence_;  // creation order: consumers come after producers
};

// A primitive operation: by default its backward pass runs the graph rule without recording; where
// that would be slow, `backward` is overridden with kernels.
class PrimitiveNode : public Node {
  public:
    void backward(BackwardContext& context) override;
};

}  // namespace tempra
