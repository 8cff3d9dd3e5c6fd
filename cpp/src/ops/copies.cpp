// Layout operations that move bytes: contiguous, clone, cast, concatenate, stack, split.
#include <algorithm>
#include <unordered_set>

#include "autograd/tape.h"
#include "dispatch/select.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"
#include "tensor/device_copy.h"

namespace tempra {

namespace {

struct CopyNode : PrimitiveNode {
    [[nodiscard]] const char* name() const override { return "copy"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {cast(grads[0], edges()[0].dtype)};
    }
    void release() override {}
};

struct ToDeviceNode : PrimitiveNode {
    [[nodiscard]] const char* name() const override { return "to"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {to_device(grads[0], edges()[0].device)};
    }
    void release() override {}
};

struct ConcatenateNode : PrimitiveNode {
    int dimension = 0;
    [[nodiscard]] const char* name() const override { return "concatenate"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        std::vector<Tensor> results(edges().size());
        std::int64_t start = 0;
        for (size_t i = 0; i < edges().size(); ++i) {
            const std::int64_t length = edges()[i].sizes[dimension];
            if (needed[i] != 0) results[i] = narrow(grads[0], dimension, start, length);
            start += length;
        }
        return results;
    }
    void release() override {}
};

// One node for all pieces, so that the gradient is joined once instead of padded piece by piece.
struct SplitNode : PrimitiveNode {
    int dimension = 0;
    std::vector<std::int64_t> lengths;
    [[nodiscard]] const char* name() const override { return "split"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        std::vector<Tensor> pieces;
        for (size_t i = 0; i < lengths.size(); ++i) {
            if (grads[i].defined()) {
                pieces.push_back(grads[i]);
                continue;
            }
            Shape sizes = edges()[0].sizes;
            sizes[dimension] = lengths[i];
            pieces.push_back(zeros(sizes, edges()[0].dtype, edges()[0].device));
        }
        return {concatenate(pieces, dimension)};
    }
    void release() override {}
};

Tensor copied(const Tensor& x, DType dtype) {
    Tensor result = empty(x.sizes(), dtype, x.device());
    {
        const GradModeGuard off(false);
        copy_(result, x);
    }
    if (is_floating(dtype) && should_record({&x})) attach(result, make_node<CopyNode>({&x}));
    return result;
}

}  // namespace

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : clone(x); }
Tensor clone(const Tensor& x) { return copied(x, x.dtype()); }
Tensor cast(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : copied(x, dtype); }

Tensor to_device(const Tensor& x, Device device) {
    if (x.device() == device) return x;
    Tensor whole;
    {
        const GradModeGuard off(false);
        whole = contiguous(x);
    }
    const Tensor result = copied_to_device(whole, device);
    if (is_floating(x.dtype()) && should_record({&x})) {
        attach(result, make_node<ToDeviceNode>({&x}));
    }
    return result;
}

void move_(const std::vector<Tensor>& tensors, Device device) {
    std::vector<Tensor> leaving;  // each once
    std::unordered_set<const void*> seen;
    for (const Tensor& tensor : tensors) {
        if (tensor.device() == device || !seen.insert(tensor.identity()).second) continue;
        TEMPRA_CHECK(Error, tensor.is_leaf(), "move_: a tensor of shape {} was computed; use to()",
                     tensor.sizes());
        TEMPRA_CHECK(
            Error, !has_autograd_record(tensor) || autograd_record(tensor).arena.expired(),
            "move_: a parameter of shape {} is in an optimizer's arena on {}; move the model "
            "before making the optimizer, or after deleting it",
            tensor.sizes(), tensor.device());
        leaving.push_back(tensor);
    }
    // Every copy is made before the first tensor changes: memory may not suffice for the last.
    const GradModeGuard off(false);
    std::vector<Tensor> values, gradients;
    for (const Tensor& tensor : leaving) {
        values.push_back(copied_to_device(contiguous(tensor.detach()), device));
        const bool has_gradient = has_autograd_record(tensor) && tensor.grad().defined();
        gradients.push_back(has_gradient ? to_device(autograd_record(tensor).grad, device)
                                         : Tensor());
    }
    for (size_t i = 0; i < leaving.size(); ++i) {
        TensorAccess::rebind(leaving[i], TensorAccess::impl(values[i]).storage, 0);
        leaving[i].bump_version();
        if (!has_autograd_record(leaving[i])) continue;
        autograd_record(leaving[i]).low_precision = Tensor();
        autograd_record(leaving[i]).grad = gradients[i];
    }
}

Tensor concatenate(const std::vector<Tensor>& tensors, std::int64_t dimension) {
    TEMPRA_CHECK(ShapeError, !tensors.empty(), "concatenate: no tensors given");
    const Tensor& first = tensors[0];
    const int axis = normalize_dimension("concatenate", dimension, first.dimensions());
    Shape sizes = first.sizes();
    sizes[axis] = 0;
    bool recording = false;
    for (const Tensor& piece : tensors) {
        TEMPRA_CHECK(DtypeError, piece.dtype() == first.dtype(),
                     "concatenate: dtypes {} and {} differ", first.dtype(), piece.dtype());
        if (piece.device() != first.device()) {
            raise_mixed_devices("concatenate", first.device(), piece.device());
        }
        bool fits = piece.dimensions() == first.dimensions();
        for (int i = 0; fits && i < first.dimensions(); ++i) {
            fits = i == axis || piece.size(i) == first.size(i);
        }
        TEMPRA_CHECK(ShapeError, fits, "concatenate: shapes {} and {} differ outside dimension {}",
                     first.sizes(), piece.sizes(), axis);
        sizes[axis] += piece.size(axis);
        recording = recording || should_record({&piece});
    }
    Tensor result = empty(sizes, first.dtype(), first.device());
    {
        const GradModeGuard off(false);
        std::int64_t start = 0;
        for (const Tensor& piece : tensors) {
            copy_(narrow(result, axis, start, piece.size(axis)), piece);
            start += piece.size(axis);
        }
    }
    if (recording) {
        auto node = make_counted<ConcatenateNode>();
        for (const Tensor& piece : tensors) node->add_input(piece);
        node->dimension = axis;
        attach(result, node);
    }
    return result;
}

Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dimension) {
    TEMPRA_CHECK(ShapeError, !tensors.empty(), "stack: no tensors given");
    std::vector<Tensor> pieces;
    for (const Tensor& tensor : tensors) {
        TEMPRA_CHECK(ShapeError, tensor.sizes() == tensors[0].sizes(),
                     "stack: shapes {} and {} differ", tensors[0].sizes(), tensor.sizes());
        pieces.push_back(unsqueeze(tensor, dimension));
    }
    return concatenate(pieces, dimension);
}

std::vector<Tensor> split(const Tensor& x, std::span<const std::int64_t> lengths,
                          std::int64_t dimension) {
    const int axis = normalize_dimension("split", dimension, x.dimensions());
    std::int64_t total = 0;
    for (const std::int64_t length : lengths) {
        TEMPRA_CHECK(ShapeError, length >= 0, "split: negative length {}", length);
        total += length;
    }
    TEMPRA_CHECK(ShapeError, total == x.size(axis),
                 "split: lengths add up to {}, dimension {} of shape {} has {}", total, axis,
                 x.sizes(), x.size(axis));
    const bool recording = should_record({&x});
    IntrusivePtr<SplitNode> node;
    if (recording) {
        node = make_node<SplitNode>({&x});
        node->dimension = axis;
        node->lengths.assign(lengths.begin(), lengths.end());
        node->outputs = static_cast<int>(lengths.size());
    }
    const GradModeGuard off(false);
    std::vector<Tensor> pieces;
    std::int64_t start = 0;
    for (const std::int64_t length : lengths) {
        pieces.push_back(narrow(x, axis, start, length));
        start += length;
        if (recording) attach(pieces.back(), node, static_cast<int>(pieces.size()) - 1);
    }
    return pieces;
}

}  // namespace tempra
