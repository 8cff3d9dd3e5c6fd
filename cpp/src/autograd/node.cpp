#include "autograd/node.h"

#include <atomic>

#include "autograd/autograd_record.h"
#include "autograd/gradient_arithmetic.h"
#include "autograd/saved_tensor.h"
#include "autograd/tape.h"

namespace tempra {

namespace {

std::atomic<std::uint64_t> next_sequence{0};

}  // namespace

Node::Node() : sequence_(next_sequence.fetch_add(1, std::memory_order_relaxed)) {}

// A long chain of nodes must not be destroyed by recursion: edges move to a list that the outermost
// destructor on this thread empties.
Node::~Node() {
    thread_local std::vector<IntrusivePtr<Node>>* doomed = nullptr;
    std::vector<IntrusivePtr<Node>> list;
    const bool outermost = doomed == nullptr;
    if (outermost) doomed = &list;
    for (Edge& edge : edges_) {
        if (edge.node) doomed->push_back(std::move(edge.node));
    }
    if (!outermost) return;
    while (!list.empty()) {
        const IntrusivePtr<Node> last = std::move(list.back());
        list.pop_back();
    }
    doomed = nullptr;
}

void Node::add_input(const Tensor& tensor) {
    Edge edge;
    if (tensor.defined()) {
        edge.sizes = tensor.sizes();
        edge.dtype = tensor.dtype();
        edge.device = tensor.device();
        if (tensor.requires_grad()) {
            const AutogradRecord& record = autograd_record(tensor);
            if (record.node) {
                edge.node = record.node;
                edge.output_index = record.output_index;
            } else {
                edge.leaf = tensor;
            }
        }
    }
    edges_.push_back(std::move(edge));
}

std::vector<Tensor> Node::backward_graph(const std::vector<Tensor>& /*grad_outputs*/,
                                         const std::vector<char>& /*needed*/) {
    throw Error(
        format("{}: this fused operation has no second derivative; run the forward pass inside "
               "tempra.composed() to differentiate it with create_graph",
               name()));
}

void PrimitiveNode::backward(BackwardContext& context) {
    const GradModeGuard off(false);
    std::vector<Tensor> grad_outputs;
    for (int i = 0; i < outputs; ++i) grad_outputs.push_back(context.grad_output(i));
    std::vector<char> needed;
    for (size_t i = 0; i < edges().size(); ++i) {
        needed.push_back(context.needs(static_cast<int>(i)) ? 1 : 0);
    }
    std::vector<Tensor> gradients = backward_graph(grad_outputs, needed);
    for (size_t i = 0; i < gradients.size(); ++i) {
        if (needed[i] != 0 && gradients[i].defined()) {
            context.set(static_cast<int>(i), std::move(gradients[i]));
        }
    }
}

BackwardContext::BackwardContext(const Node& node, std::vector<Tensor>& grad_outputs,
                                 std::vector<char> needed, bool into_leaves, bool last_use)
    : node_(node),
      grad_outputs_(grad_outputs),
      needed_(std::move(needed)),
      results_(node.edges().size()),
      into_leaves_(into_leaves),
      last_use_(last_use) {}

BackwardContext::~BackwardContext() {
    for (const Tensor& leaf : being_written_) autograd_record(leaf).grad_is_unwritten = true;
}

Tensor BackwardContext::contiguous_grad_output(int i) const {
    return gradient_contiguous(grad_outputs_[i]);
}

void BackwardContext::set(int input, Tensor gradient) { results_[input] = std::move(gradient); }

Tensor BackwardContext::gradient_buffer(int input) {
    const Edge& edge = node_.edges()[input];
    if (edge.leaf.defined()) write_zero_gradient(autograd_record(edge.leaf));
    return gradient_target(input).buffer;
}

GradientTarget BackwardContext::gradient_target(int input) {
    const Edge& edge = node_.edges()[input];
    const DType dtype = edge.dtype == DType::f64 ? DType::f64 : DType::f32;
    if (into_leaves_ && edge.leaf.defined() && edge.dtype == dtype) {
        Tensor leaf = edge.leaf;
        AutogradRecord& record = autograd_record(leaf);
        if (!record.grad.defined()) {
            leaf.set_grad(gradient_zeros(edge.sizes, dtype, leaf.device()));
        }
        // Kernels write contiguous memory of their dtype; another gradient is added to afterwards.
        if (record.grad.dtype() == dtype && record.grad.is_contiguous()) {
            record.grad.bump_version();
            const bool overwrite = record.grad_is_unwritten;
            if (overwrite) being_written_.push_back(leaf);
            record.grad_is_unwritten = false;
            return {record.grad, overwrite};
        }
    }
    // The same parameter may feed one node twice; each input has its own buffer.
    results_[input] = gradient_zeros(edge.sizes, dtype, edge.device);
    return {results_[input], false};
}

SavedTensor SavedTensor::input(const Tensor& tensor) {
    SavedTensor saved;
    saved.tensor_ = tensor;
    if (tensor.defined()) saved.version_ = tensor.version();
    return saved;
}

SavedTensor SavedTensor::output(const Tensor& tensor) { return input(tensor.detach()); }

const Tensor& SavedTensor::get(const char* operation) const {
    TEMPRA_CHECK(Error, !tensor_.defined() || tensor_.version() == version_,
                 "{}: a tensor of shape {} needed for the gradient was written in place after it "
                 "was used (version {} then, {} now); clone it before writing",
                 operation, tensor_.sizes(), version_, tensor_.version());
    return tensor_;
}

SavedInput SavedInput::of(const Tensor& tensor) {
    SavedInput saved;
    // Written in place since it was made: no recipe knows that value.
    if (tensor.defined() && tensor.version() == 0 && has_autograd_record(tensor)) {
        const AutogradRecord& record = autograd_record(tensor);
        if (record.node && record.output_index == 0) saved.recipe_ = record.node->output_recipe();
    }
    if (!saved.recipe_) saved.tensor_ = SavedTensor::input(tensor);
    return saved;
}

Tensor SavedInput::get(const char* operation) const {
    if (!recipe_) return tensor_.get(operation);
    const GradModeGuard off(false);
    return recipe_();
}

void SavedInput::reset() {
    tensor_.reset();
    recipe_ = nullptr;
}

Tensor SavedTensor::get_output(Node& node, int output_index) const {
    const Tensor alias = get(node.name()).detach();
    if (is_grad_enabled()) attach(alias, IntrusivePtr<Node>(&node), output_index);
    return alias;
}

}  // namespace tempra
