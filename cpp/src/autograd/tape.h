// Recording: which operations get a node and how outputs are tied to it.
#pragma once

#include <initializer_list>

#include "autograd/autograd_record.h"
#include "autograd/node.h"
#include "tempra/autograd.h"
#include "tempra/training.h"

namespace tempra {

[[nodiscard]] inline bool should_record(std::initializer_list<const Tensor*> inputs) {
    if (!is_enabled() || !is_grad_enabled()) return false;
    for (const Tensor* input : inputs) {
        if (input->defined() && input->requires_grad()) return true;
    }
    return false;
}

// Makes `output` number `index` of `node`.
inline void attach(const Tensor& output, const IntrusivePtr<Node>& node, int index = 0) {
    AutogradRecord& record = autograd_record(output);
    record.node = node;
    record.output_index = index;
}

// A node of type `NodeType` with the given inputs, in order; members are filled in by the caller.
template <class NodeType>
[[nodiscard]] IntrusivePtr<NodeType> make_node(std::initializer_list<const Tensor*> inputs) {
    IntrusivePtr<NodeType> node = make_counted<NodeType>();
    for (const Tensor* input : inputs) node->add_input(*input);
    return node;
}

}  // namespace tempra
