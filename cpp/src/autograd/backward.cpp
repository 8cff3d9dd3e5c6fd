// The backward walk: iterative, newest node first, so that a node runs only after all its
// consumers.
#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "autograd/gradient_arithmetic.h"
#include "autograd/node.h"
#include "autograd/tape.h"
#include "autograd/walk.h"
#include "dispatch/launch.h"
#include "tempra/autograd.h"

namespace tempra {

namespace {

thread_local bool grad_enabled = true;
thread_local bool composed_mode = false;

struct NewestFirst {
    bool operator()(const IntrusivePtr<Node>& a, const IntrusivePtr<Node>& b) const {
        return a->sequence() < b->sequence();
    }
};

// Adds `gradient` to `sum`. Outside graph creation a sum that nobody else holds is added to in
// place.
void add_gradient(Tensor& sum, const Tensor& gradient, bool create_graph) {
    if (!sum.defined()) {
        sum = gradient;
    } else if (!create_graph && TensorAccess::uniquely_owned(sum) && sum.is_contiguous()) {
        launch("backward", sum, &KernelTable::accumulate, gradient.view(), sum.view());
    } else {
        sum = gradient_sum(sum, gradient);
    }
}

// Which tensors' gradients the caller of `grad` asked for.
struct Targets {
    std::unordered_map<TensorImpl*, size_t> leaves;
    std::unordered_map<Node*, std::vector<std::pair<int, size_t>>> outputs;
    std::unordered_set<Node*> on_path;  // nodes from which a target can be reached

    [[nodiscard]] bool leads_to_target(const Edge& edge) const {
        if (edge.leaf.defined()) return leaves.contains(TensorAccess::pointer(edge.leaf));
        return edge.node && (on_path.contains(edge.node.get()) || is_target(edge));
    }
    [[nodiscard]] bool is_target(const Edge& edge) const {
        const auto found = outputs.find(edge.node.get());
        if (found == outputs.end()) return false;
        for (const auto& [index, slot] : found->second) {
            if (index == edge.output_index) return true;
        }
        return false;
    }

    // Marks every node below `roots` that leads to a target: depth first with an explicit stack.
    void mark_paths(const std::vector<Node*>& roots) {
        std::unordered_set<Node*> visited;
        std::vector<std::pair<Node*, size_t>> stack;
        for (Node* root : roots) {
            if (visited.insert(root).second) stack.emplace_back(root, 0);
            while (!stack.empty()) {
                auto& [node, next] = stack.back();
                if (next < node->edges().size()) {
                    Node* child = node->edges()[next++].node.get();
                    if (child != nullptr && visited.insert(child).second) {
                        stack.emplace_back(child, 0);
                    }
                    continue;
                }
                for (const Edge& edge : node->edges()) {
                    if (leads_to_target(edge)) {
                        on_path.insert(node);
                        break;
                    }
                }
                stack.pop_back();
            }
        }
    }
};

class Walk {
  public:
    Walk(bool create_graph, bool retain_graph, Targets* targets, std::vector<Tensor>* results)
        : create_graph_(create_graph),
          retain_graph_(retain_graph),
          targets_(targets),
          results_(results) {}

    // Sends `gradient` along `edge`.
    void propagate(const Edge& edge, Tensor gradient) {
        if (gradient.dtype() != edge.dtype) gradient = gradient_cast(gradient, edge.dtype);
        if (edge.leaf.defined()) {
            deliver_to_leaf(edge.leaf, gradient);
            return;
        }
        std::vector<Tensor>& slots = pending_[edge.node.get()];
        if (slots.empty()) {
            slots.resize(edge.node->outputs);
            queue_.push(edge.node);
        }
        add_gradient(slots[edge.output_index], gradient, create_graph_);
    }

    void run() {
        const GradModeGuard mode(create_graph_);
        while (!queue_.empty()) {
            const IntrusivePtr<Node> node = queue_.top();
            queue_.pop();
            std::vector<Tensor> gradients = std::move(pending_[node.get()]);
            pending_.erase(node.get());
            collect_outputs(*node, gradients);
            if (targets_ == nullptr || targets_->on_path.contains(node.get())) {
                visit(*node, gradients);
            }
        }
    }

  private:
    void deliver_to_leaf(Tensor leaf, const Tensor& gradient) {
        if (targets_ != nullptr) {
            const auto found = targets_->leaves.find(TensorAccess::pointer(leaf));
            if (found != targets_->leaves.end()) {
                add_gradient((*results_)[found->second], gradient, create_graph_);
            }
            return;
        }
        AutogradRecord& record = autograd_record(leaf);
        if (!record.grad.defined()) {
            // The gradient may be shared with another edge or be a broadcast view: keep a copy.
            leaf.set_grad(gradient_copy(gradient));
            return;
        }
        const auto write = record.grad_is_unwritten ? &KernelTable::copy : &KernelTable::accumulate;
        launch("backward", record.grad, write, gradient.view(), record.grad.view());
        record.grad_is_unwritten = false;
        record.grad.bump_version();
    }

    void collect_outputs(Node& node, const std::vector<Tensor>& gradients) {
        if (targets_ == nullptr) return;
        const auto found = targets_->outputs.find(&node);
        if (found == targets_->outputs.end()) return;
        for (const auto& [index, slot] : found->second) {
            if (gradients[index].defined()) (*results_)[slot] = gradients[index];
        }
    }

    void visit(Node& node, std::vector<Tensor>& gradients) {
        TEMPRA_CHECK(Error, !node.released,
                     "backward: the tape at {} was freed by an earlier backward pass; pass "
                     "retain_graph=True there to walk it twice",
                     node.name());
        std::vector<char> needed;
        for (const Edge& edge : node.edges()) {
            needed.push_back(
                edge.connected() && (targets_ == nullptr || targets_->leads_to_target(edge)) ? 1
                                                                                             : 0);
        }
        std::vector<Tensor> inputs;
        if (create_graph_) {
            inputs = node.backward_graph(gradients, needed);
        } else {
            BackwardContext context(node, gradients, needed, targets_ == nullptr, !retain_graph_);
            node.backward(context);
            context.finish();
            inputs = std::move(context.results());
        }
        if (!retain_graph_ && !create_graph_) {
            node.release();
            node.released = true;
        }
        gradients.clear();
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (needed[i] != 0 && inputs[i].defined()) {
                Tensor gradient = std::move(inputs[i]);
                propagate(node.edges()[i], std::move(gradient));
            }
        }
    }

    bool create_graph_;
    bool retain_graph_;
    Targets* targets_;
    std::vector<Tensor>* results_;
    std::unordered_map<Node*, std::vector<Tensor>> pending_;
    std::priority_queue<IntrusivePtr<Node>, std::vector<IntrusivePtr<Node>>, NewestFirst> queue_;
};

Edge edge_of(const Tensor& tensor) {
    Edge edge;
    edge.sizes = tensor.sizes();
    edge.dtype = tensor.dtype();
    edge.device = tensor.device();
    if (tensor.is_leaf()) {
        edge.leaf = tensor;
    } else {
        const AutogradRecord& record = autograd_record(tensor);
        edge.node = record.node;
        edge.output_index = record.output_index;
    }
    return edge;
}

Tensor checked_gradient(const char* operation, const Tensor& output, const Tensor& gradient) {
    if (!gradient.defined()) {
        TEMPRA_CHECK(
            ShapeError, output.numel() == 1,
            "{}: a gradient must be given for an output of shape {}; only an output of one "
            "element has an implied gradient of 1",
            operation, output.sizes());
        return gradient_ones(output.sizes(), output.dtype(), output.device());
    }
    TEMPRA_CHECK(ShapeError, gradient.sizes() == output.sizes(),
                 "{}: gradient of shape {} given for an output of shape {}", operation,
                 gradient.sizes(), output.sizes());
    if (gradient.device() != output.device()) {
        raise_mixed_devices(operation, output.device(), gradient.device());
    }
    return gradient;
}

}  // namespace

bool is_grad_enabled() { return grad_enabled; }
void set_grad_enabled(bool enabled) { grad_enabled = enabled; }
bool is_composed() { return composed_mode; }
void set_composed(bool composed) { composed_mode = composed; }

void backward(const Tensor& output, const Tensor& gradient, bool retain_graph) {
    require_training("backward");
    TEMPRA_CHECK(
        Error, output.requires_grad(),
        "backward: the output of shape {} does not depend on any tensor that requires grad",
        output.sizes());
    backward_all({output}, {gradient}, retain_graph);
}

void backward_all(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
                  bool retain_graph) {
    Walk walk(false, retain_graph, nullptr, nullptr);
    const GradModeGuard off(false);
    for (size_t i = 0; i < outputs.size(); ++i) {
        walk.propagate(edge_of(outputs[i]), checked_gradient("backward", outputs[i], gradients[i]));
    }
    walk.run();
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& grad_outputs, const GradOptions& options) {
    require_training("grad");
    TEMPRA_CHECK(ShapeError, grad_outputs.empty() || grad_outputs.size() == outputs.size(),
                 "grad: {} grad_outputs given for {} outputs", grad_outputs.size(), outputs.size());
    Targets targets;
    std::vector<Tensor> results(inputs.size());
    std::vector<std::pair<size_t, size_t>> repeated;  // an input named twice gets the same gradient
    for (size_t i = 0; i < inputs.size(); ++i) {
        TEMPRA_CHECK(Error, inputs[i].requires_grad(), "grad: input {} does not require grad", i);
        if (inputs[i].is_leaf()) {
            const auto [found, fresh] = targets.leaves.emplace(TensorAccess::pointer(inputs[i]), i);
            if (!fresh) repeated.emplace_back(i, found->second);
        } else {
            const AutogradRecord& record = autograd_record(inputs[i]);
            targets.outputs[record.node.get()].emplace_back(record.output_index, i);
        }
    }
    std::vector<Node*> roots;
    for (const Tensor& output : outputs) {
        if (!output.is_leaf()) roots.push_back(autograd_record(output).node.get());
    }
    targets.mark_paths(roots);

    Walk walk(options.create_graph, options.retain_graph, &targets, &results);
    {
        const GradModeGuard mode(options.create_graph);
        for (size_t i = 0; i < outputs.size(); ++i) {
            if (!outputs[i].requires_grad()) continue;
            const Tensor given = grad_outputs.empty() ? Tensor() : grad_outputs[i];
            walk.propagate(edge_of(outputs[i]), checked_gradient("grad", outputs[i], given));
        }
    }
    walk.run();
    for (const auto& [copy, original] : repeated) results[copy] = results[original];
    for (size_t i = 0; i < results.size(); ++i) {
        TEMPRA_CHECK(Error, results[i].defined() || options.allow_unused,
                     "grad: the outputs do not depend on input {}; pass allow_unused=True to get "
                     "None for it",
                     i);
    }
    return results;
}

}  // namespace tempra
