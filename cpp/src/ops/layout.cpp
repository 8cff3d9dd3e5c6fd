// Views of one storage. Each records how to carry a gradient back to the tensor it is a view of.
#include "tempra/ops/layout.h"

#include <array>
#include <utility>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/reduce.h"

namespace tempra {

namespace {

// Base of nodes whose gradient needs only what is stored in the node: nothing to release.
struct LayoutNode : PrimitiveNode {
    void release() override {}
    [[nodiscard]] const Shape& input_sizes() const { return edges()[0].sizes; }
};

struct ReshapeNode : LayoutNode {
    [[nodiscard]] const char* name() const override { return "reshape"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {reshape(grads[0], input_sizes())};
    }
};

struct PermuteNode : LayoutNode {
    std::array<std::int64_t, kMaxDimensions> inverse{};
    [[nodiscard]] const char* name() const override { return "permute"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {permute(grads[0],
                        std::span(inverse.data(), static_cast<size_t>(grads[0].dimensions())))};
    }
};

struct ExpandNode : LayoutNode {
    [[nodiscard]] const char* name() const override { return "expand"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {sum_to(grads[0], input_sizes())};
    }
};

// The gradient of a slice is zero outside it.
Tensor embed_slice(const Tensor& gradient, const Shape& sizes, int dimension, std::int64_t start,
                   std::int64_t step);

struct SliceNode : LayoutNode {
    int dimension = 0;
    std::int64_t start = 0, step = 1;
    [[nodiscard]] const char* name() const override { return "slice"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {embed_slice(grads[0], input_sizes(), dimension, start, step)};
    }
};

struct EmbedSliceNode : LayoutNode {
    int dimension = 0;
    std::int64_t start = 0, step = 1;
    [[nodiscard]] const char* name() const override { return "embed_slice"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const std::int64_t length = input_sizes()[dimension];
        return {slice(grads[0], dimension, start, start + (length - 1) * step + 1, step)};
    }
};

Tensor strided_slice(const Tensor& x, int dimension, std::int64_t start, std::int64_t length,
                     std::int64_t step) {
    const TensorImpl& from = TensorAccess::impl(x);
    Shape sizes = from.sizes;
    Strides strides = from.strides;
    sizes[dimension] = length;
    strides[dimension] *= step;
    const std::int64_t shift = length > 0 ? start * from.strides[dimension] : 0;
    return TensorAccess::alias(x, sizes, strides, from.offset + shift);
}

Tensor embed_slice(const Tensor& gradient, const Shape& sizes, int dimension, std::int64_t start,
                   std::int64_t step) {
    Tensor result = zeros(sizes, gradient.dtype(), gradient.device());
    {
        const GradModeGuard off(false);
        copy_(strided_slice(result, dimension, start, gradient.size(dimension), step), gradient);
    }
    if (should_record({&gradient})) {
        auto node = make_node<EmbedSliceNode>({&gradient});
        node->dimension = dimension;
        node->start = start;
        node->step = step;
        attach(result, node);
    }
    return result;
}

// Strides that view `x` as `sizes` without a copy, or false.
bool view_strides(const TensorImpl& x, const Shape& sizes, Strides& strides) {
    strides = Shape::filled(sizes.dimensions(), 0);
    int old_dimension = x.sizes.dimensions() - 1;
    int new_dimension = sizes.dimensions() - 1;
    while (old_dimension >= 0 || new_dimension >= 0) {
        // One group: a run of old dimensions whose elements lie in one arithmetic progression.
        std::int64_t old_count = 1;
        std::int64_t new_count = 1;
        const std::int64_t innermost = old_dimension >= 0 ? x.strides[old_dimension] : 1;
        if (old_dimension >= 0) old_count = x.sizes[old_dimension--];
        while (true) {
            if (new_count < old_count && new_dimension >= 0) {
                strides[new_dimension] = innermost * new_count;
                new_count *= sizes[new_dimension--];
            } else if (old_count < new_count && old_dimension >= 0) {
                if (x.sizes[old_dimension] != 1 &&
                    x.strides[old_dimension] != innermost * old_count) {
                    return false;
                }
                old_count *= x.sizes[old_dimension--];
            } else {
                break;
            }
        }
        if (old_count != new_count) return false;
        // Trailing ones of the group on the new side.
        while (new_dimension >= 0 && sizes[new_dimension] == 1) {
            strides[new_dimension--] = innermost * new_count;
        }
        while (old_dimension >= 0 && x.sizes[old_dimension] == 1) --old_dimension;
    }
    return true;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& requested) {
    Shape sizes = requested;
    std::int64_t known = 1;
    int inferred = -1;
    for (int i = 0; i < sizes.dimensions(); ++i) {
        if (sizes[i] == -1) {
            TEMPRA_CHECK(ShapeError, inferred < 0, "reshape: more than one -1 in {}", requested);
            inferred = i;
        } else {
            TEMPRA_CHECK(ShapeError, sizes[i] >= 0, "reshape: negative size in {}", requested);
            known *= sizes[i];
        }
    }
    if (inferred >= 0) {
        TEMPRA_CHECK(ShapeError, known != 0 && x.numel() % known == 0,
                     "reshape: shape {} cannot become {}", x.sizes(), requested);
        sizes[inferred] = x.numel() / known;
    }
    TEMPRA_CHECK(ShapeError, sizes.numel() == x.numel(),
                 "reshape: shape {} ({} elements) cannot become {}", x.sizes(), x.numel(),
                 requested);
    const TensorImpl& from = TensorAccess::impl(x);
    Strides strides;
    Tensor result;
    if (x.numel() == 0 || x.is_contiguous()) {
        result = TensorAccess::alias(x, sizes, contiguous_strides(sizes), from.offset);
    } else if (view_strides(from, sizes, strides)) {
        result = TensorAccess::alias(x, sizes, strides, from.offset);
    } else {
        const GradModeGuard off(false);
        const Tensor copy = contiguous(x);
        result = TensorAccess::alias(copy, sizes, contiguous_strides(sizes), 0);
    }
    if (should_record({&x})) attach(result, make_node<ReshapeNode>({&x}));
    return result;
}

Tensor transpose(const Tensor& x, std::int64_t first, std::int64_t second) {
    std::array<std::int64_t, kMaxDimensions> order{};
    for (int i = 0; i < x.dimensions(); ++i) order[i] = i;
    std::swap(order[normalize_dimension("transpose", first, x.dimensions())],
              order[normalize_dimension("transpose", second, x.dimensions())]);
    return permute(x, std::span(order.data(), static_cast<size_t>(x.dimensions())));
}

Tensor permute(const Tensor& x, std::span<const std::int64_t> order) {
    const TensorImpl& from = TensorAccess::impl(x);
    TEMPRA_CHECK(ShapeError, static_cast<int>(order.size()) == x.dimensions(),
                 "permute: {} dimensions given for shape {}", order.size(), x.sizes());
    Shape sizes = from.sizes;
    Strides strides = from.strides;
    std::array<std::int64_t, kMaxDimensions> inverse{};
    unsigned seen = 0;
    for (int i = 0; i < x.dimensions(); ++i) {
        const int source = normalize_dimension("permute", order[i], x.dimensions());
        TEMPRA_CHECK(ShapeError, (seen & (1U << source)) == 0, "permute: dimension {} given twice",
                     source);
        seen |= 1U << source;
        sizes[i] = from.sizes[source];
        strides[i] = from.strides[source];
        inverse[source] = i;
    }
    Tensor result = TensorAccess::alias(x, sizes, strides, from.offset);
    if (should_record({&x})) {
        auto node = make_node<PermuteNode>({&x});
        node->inverse = inverse;
        attach(result, node);
    }
    return result;
}

Tensor expand(const Tensor& x, const Shape& requested) {
    const TensorImpl& from = TensorAccess::impl(x);
    const int added = requested.dimensions() - from.sizes.dimensions();
    TEMPRA_CHECK(ShapeError, added >= 0, "expand: shape {} has more dimensions than {}", from.sizes,
                 requested);
    if (from.sizes == requested) return x;
    Shape sizes = requested;
    Strides strides = Shape::filled(requested.dimensions(), 0);
    for (int i = added; i < requested.dimensions(); ++i) {
        const std::int64_t size = from.sizes[i - added];
        if (sizes[i] == -1) sizes[i] = size;
        TEMPRA_CHECK(ShapeError, size == 1 || size == sizes[i],
                     "expand: shape {} does not broadcast to {}", from.sizes, requested);
        strides[i] = size == 1 && sizes[i] != 1 ? 0 : from.strides[i - added];
    }
    Tensor result = TensorAccess::alias(x, sizes, strides, from.offset);
    if (should_record({&x})) attach(result, make_node<ExpandNode>({&x}));
    return result;
}

Tensor slice(const Tensor& x, std::int64_t dimension, std::int64_t start, std::int64_t stop,
             std::int64_t step) {
    const int axis = normalize_dimension("slice", dimension, x.dimensions());
    TEMPRA_CHECK(ShapeError, step >= 1,
                 "slice: step {} given; only steps of 1 and more are supported", step);
    const std::int64_t size = x.size(axis);
    const auto clamp = [size](std::int64_t i) {
        if (i < 0) i += size;
        return i < 0 ? 0 : (i > size ? size : i);
    };
    const std::int64_t first = clamp(start);
    const std::int64_t last = clamp(stop);
    const std::int64_t length = last > first ? (last - first + step - 1) / step : 0;
    Tensor result = strided_slice(x, axis, first, length, step);
    if (should_record({&x})) {
        auto node = make_node<SliceNode>({&x});
        node->dimension = axis;
        node->start = first;
        node->step = step;
        attach(result, node);
    }
    return result;
}

Tensor narrow(const Tensor& x, std::int64_t dimension, std::int64_t start, std::int64_t length) {
    const int axis = normalize_dimension("narrow", dimension, x.dimensions());
    TEMPRA_CHECK(
        ShapeError,
        start >= 0 && length >= 0 && length <= x.size(axis) && start <= x.size(axis) - length,
        "narrow: [{}, {} + {}) is outside dimension {} of shape {}", start, start, length, axis,
        x.sizes());
    return slice(x, axis, start, start + length, 1);
}

Tensor select(const Tensor& x, std::int64_t dimension, std::int64_t index) {
    const int axis = normalize_dimension("select", dimension, x.dimensions());
    const std::int64_t at = index < 0 ? index + x.size(axis) : index;
    TEMPRA_CHECK(ShapeError, at >= 0 && at < x.size(axis),
                 "select: index {} is outside dimension {} of shape {}", index, axis, x.sizes());
    return squeeze(narrow(x, axis, at, 1), axis);
}

Tensor squeeze(const Tensor& x, std::int64_t dimension) {
    const int axis = normalize_dimension("squeeze", dimension, x.dimensions());
    TEMPRA_CHECK(ShapeError, x.size(axis) == 1, "squeeze: dimension {} of shape {} is not 1", axis,
                 x.sizes());
    Shape sizes = x.sizes();
    sizes.erase(axis);
    return reshape(x, sizes);
}

Tensor unsqueeze(const Tensor& x, std::int64_t dimension) {
    const int axis = normalize_dimension("unsqueeze", dimension, x.dimensions() + 1);
    Shape sizes = x.sizes();
    sizes.insert(axis, 1);
    return reshape(x, sizes);
}

Tensor sum_to(const Tensor& x, const Shape& sizes) {
    if (x.sizes() == sizes) return x;
    const int added = x.dimensions() - sizes.dimensions();
    std::vector<std::int64_t> reduced;
    for (int i = 0; i < x.dimensions(); ++i) {
        if (i < added || (sizes[i - added] == 1 && x.size(i) != 1)) reduced.push_back(i);
    }
    return reshape(sum(x, reduced, true), sizes);
}

}  // namespace tempra
