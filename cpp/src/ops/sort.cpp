#include "tempra/ops/sort.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/indexing.h"

namespace tempra {

namespace {

// Each gradient goes back to where its value came from; the indices of a slice are all different.
struct SortNode : PrimitiveNode {
    int dimension = 0;
    SavedTensor indices;
    [[nodiscard]] const char* name() const override { return "sort"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const Tensor base = zeros(edges()[0].sizes, grads[0].dtype(), grads[0].device());
        return {scatter(base, dimension, indices.get(name()), grads[0])};
    }
    void release() override { indices.reset(); }
};

SortResult ordered(const char* name, const Tensor& x, int axis, bool descending,
                   std::int64_t count) {
    Shape sizes = x.sizes();
    sizes[axis] = count;
    SortResult result{empty(sizes, x.dtype(), x.device()), empty(sizes, DType::i64, x.device())};
    if (result.values.numel() > 0) {
        launch(name, x, &KernelTable::sort, x.view(), std::int32_t{axis}, std::int32_t{descending},
               result.values.view(), result.indices.view());
    }
    if (should_record({&x})) {
        auto node = make_node<SortNode>({&x});
        node->dimension = axis;
        node->indices = SavedTensor::input(result.indices);
        attach(result.values, node);
    }
    return result;
}

}  // namespace

SortResult sort(const Tensor& x, std::int64_t dimension, bool descending) {
    const int axis = normalize_dimension("sort", dimension, x.dimensions());
    return ordered("sort", x, axis, descending, x.size(axis));
}

SortResult topk(const Tensor& x, std::int64_t count, std::int64_t dimension, bool largest) {
    const int axis = normalize_dimension("topk", dimension, x.dimensions());
    TEMPRA_CHECK(ShapeError, count >= 0 && count <= x.size(axis),
                 "topk: count {} given; dimension {} of shape {} has {}", count, axis, x.sizes(),
                 x.size(axis));
    return ordered("topk", x, axis, largest, count);
}

Tensor argsort(const Tensor& x, std::int64_t dimension, bool descending) {
    const GradModeGuard off(false);
    return sort(x, dimension, descending).indices;
}

}  // namespace tempra
