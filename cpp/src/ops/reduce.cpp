// Reductions over sets of dimensions, and their gradients.
#include "tempra/ops/reduce.h"

#include <vector>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/widened.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

constexpr const char* kNames[] = {"sum", "mean", "max", "min", "prod"};
static_assert(std::size(kNames) == static_cast<size_t>(ReduceOp::count_));

struct ReduceNode : PrimitiveNode {
    ReduceOp op = ReduceOp::sum;
    Shape kept_sizes;  // of the output with size 1 where reduced
    SavedTensor input, output;

    [[nodiscard]] const char* name() const override { return kNames[static_cast<int>(op)]; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const Shape& sizes = edges()[0].sizes;
        const Tensor g = expand(reshape(grads[0], kept_sizes), sizes);
        if (op == ReduceOp::sum) return {g};
        if (op == ReduceOp::mean) {
            const std::int64_t count =
                sizes.numel() / std::max<std::int64_t>(kept_sizes.numel(), 1);
            return {multiply(g, scalar_like(g, 1.0 / static_cast<double>(count)))};
        }
        const Tensor& x = input.get(name());
        if (op == ReduceOp::product) {
            return {multiply(widened(g), product_derivative(widened(x)))};
        }
        // Extremes: the gradient is divided among the elements that are equal to the extreme.
        const Tensor extreme = reshape(output.get(name()), kept_sizes);
        const Tensor mask = cast(equal(x, extreme), x.dtype());
        const Tensor ties = sum_to(mask, kept_sizes);
        return {multiply(g, divide(mask, ties))};
    }
    void release() override {
        input.reset();
        output.reset();
    }

  private:
    // Product of all the other elements of the slice: exclusive products from the left and the
    // right, so that zeros are right; the reduced dimensions are first moved together to the end.
    [[nodiscard]] Tensor product_derivative(const Tensor& x) const {
        std::vector<std::int64_t> order;
        std::vector<std::int64_t> reduced;
        for (int i = 0; i < x.dimensions(); ++i) {
            (kept_sizes[i] == 1 && x.size(i) != 1 ? reduced : order).push_back(i);
        }
        const std::int64_t rows = kept_sizes.numel();
        order.insert(order.end(), reduced.begin(), reduced.end());
        const Tensor moved = permute(x, order);
        const Tensor flat = reshape(moved, {rows, rows == 0 ? 0 : x.numel() / rows});
        const std::int64_t count = flat.size(1);
        Tensor left = full({rows, 1}, 1.0, x.dtype(), x.device());
        std::vector<Tensor> lefts;
        for (std::int64_t i = 0; i < count; ++i) {
            lefts.push_back(left);
            left = multiply(left, narrow(flat, 1, i, 1));
        }
        Tensor right = full({rows, 1}, 1.0, x.dtype(), x.device());
        std::vector<Tensor> others(count);
        for (std::int64_t i = count - 1; i >= 0; --i) {
            others[i] = multiply(lefts[i], right);
            right = multiply(right, narrow(flat, 1, i, 1));
        }
        if (count == 0) return zeros_like(x);
        std::vector<std::int64_t> inverse(order.size());
        for (size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<std::int64_t>(i);
        return permute(reshape(concatenate(others, 1), moved.sizes()), inverse);
    }
};

Tensor reduce(ReduceOp op, const Tensor& input, std::span<const std::int64_t> dimensions,
              bool keep) {
    const char* name = kNames[static_cast<int>(op)];
    Tensor x = input;
    if (!is_floating(x.dtype())) {
        if (op == ReduceOp::mean || op == ReduceOp::product) {
            x = cast(x, DType::f32);
        } else if (x.dtype() != DType::i64) {
            x = cast(x, DType::i64);
        }
    }
    bool reduced[kMaxDimensions] = {};
    for (int i = 0; i < x.dimensions(); ++i) reduced[i] = dimensions.empty();
    for (const std::int64_t dimension : dimensions) {
        const int axis = normalize_dimension(name, dimension, x.dimensions());
        TEMPRA_CHECK(ShapeError, !reduced[axis], "{}: dimension {} given twice", name, axis);
        reduced[axis] = true;
    }
    Shape kept = x.sizes();
    Shape dropped;
    for (int i = 0; i < x.dimensions(); ++i) {
        if (reduced[i]) {
            TEMPRA_CHECK(ShapeError,
                         x.size(i) > 0 || (op != ReduceOp::maximum && op != ReduceOp::minimum),
                         "{}: dimension {} of shape {} is empty", name, i, x.sizes());
            kept[i] = 1;
        } else {
            dropped.push_back(x.size(i));
        }
    }
    Tensor result = empty(kept, x.dtype(), x.device());
    launch(name, x, &KernelTable::reduce, op, x.view(), result.view());
    if (!keep) result = TensorAccess::alias(result, dropped, contiguous_strides(dropped), 0);
    if (is_floating(x.dtype()) && should_record({&x})) {
        auto node = make_node<ReduceNode>({&x});
        node->op = op;
        node->kept_sizes = kept;
        if (op != ReduceOp::sum && op != ReduceOp::mean) node->input = SavedTensor::input(x);
        if (op == ReduceOp::maximum || op == ReduceOp::minimum) {
            node->output = SavedTensor::output(result);
        }
        attach(result, node);
    }
    return result;
}

Tensor arg_reduce(const char* name, bool maximum, const Tensor& x, std::int64_t dimension,
                  bool keep) {
    const int axis = normalize_dimension(name, dimension, x.dimensions());
    TEMPRA_CHECK(ShapeError, x.size(axis) > 0, "{}: dimension {} of shape {} is empty", name, axis,
                 x.sizes());
    Shape sizes = x.sizes();
    sizes[axis] = 1;
    Tensor result = empty(sizes, DType::i64, x.device());
    launch(name, x, &KernelTable::arg_reduce, std::int32_t{maximum}, x.view(), std::int32_t{axis},
           result.view());
    return keep ? result : squeeze(result, axis);
}

struct CumulativeSumNode : PrimitiveNode {
    int dimension = 0;
    bool reverse = false;
    [[nodiscard]] const char* name() const override { return "cumsum"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        return {cumulative_sum(grads[0], dimension, !reverse)};
    }
    void release() override {}
};

}  // namespace

Tensor sum(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    return reduce(ReduceOp::sum, x, dimensions, keep);
}
Tensor mean(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    return reduce(ReduceOp::mean, x, dimensions, keep);
}
Tensor product(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    return reduce(ReduceOp::product, x, dimensions, keep);
}
Tensor maximum_of(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    return reduce(ReduceOp::maximum, x, dimensions, keep);
}
Tensor minimum_of(const Tensor& x, std::span<const std::int64_t> dimensions, bool keep) {
    return reduce(ReduceOp::minimum, x, dimensions, keep);
}
Tensor argmax(const Tensor& x, std::int64_t dimension, bool keep) {
    return arg_reduce("argmax", true, x, dimension, keep);
}
Tensor argmin(const Tensor& x, std::int64_t dimension, bool keep) {
    return arg_reduce("argmin", false, x, dimension, keep);
}

Tensor cumulative_sum(const Tensor& x, std::int64_t dimension, bool reverse) {
    const int axis = normalize_dimension("cumsum", dimension, x.dimensions());
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    launch("cumsum", x, &KernelTable::cumulative_sum, x.view(), std::int32_t{axis},
           std::int32_t{reverse}, result.view());
    if (should_record({&x})) {
        auto node = make_node<CumulativeSumNode>({&x});
        node->dimension = axis;
        node->reverse = reverse;
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
