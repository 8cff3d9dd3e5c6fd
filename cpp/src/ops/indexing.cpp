#include "tempra/ops/indexing.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/widened.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

// i64 or i32, all entries within [0, size): negative ones are shifted.
Tensor checked_index(const char* name, const Tensor& index, std::int64_t size) {
    TEMPRA_CHECK(DtypeError, !is_floating(index.dtype()) && index.dtype() != DType::boolean,
                 "{}: index of dtype {}; needs an integer dtype", name, index.dtype());
    const bool direct = index.dtype() == DType::i64 || index.dtype() == DType::i32;
    const Tensor whole = direct ? index : cast(index, DType::i64);
    const Tensor negative_entry = less(whole, scalar_like(whole, 0));
    return where(negative_entry, add(whole, scalar_like(whole, static_cast<double>(size))), whole);
}

void check_index_shape(const char* name, const Tensor& x, int axis, const Tensor& index) {
    bool fits = index.dimensions() == x.dimensions();
    for (int i = 0; fits && i < x.dimensions(); ++i) {
        fits = i == axis || index.size(i) == x.size(i);
    }
    TEMPRA_CHECK(ShapeError, fits, "{}: index shape {} must equal shape {} outside dimension {}",
                 name, index.sizes(), x.sizes(), axis);
}

struct GatherNode : PrimitiveNode {
    int dimension = 0;
    SavedTensor index;
    [[nodiscard]] const char* name() const override { return "gather"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const Tensor base = zeros(edges()[0].sizes, grads[0].dtype(), grads[0].device());
        return {scatter_add(base, dimension, index.get(name()), grads[0])};
    }
    void release() override { index.reset(); }
};

struct ScatterNode : PrimitiveNode {
    int dimension = 0;
    bool add = false;
    SavedTensor index;
    [[nodiscard]] const char* name() const override { return add ? "scatter_add" : "scatter"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        const Tensor& where_to = index.get(name());
        std::vector<Tensor> results(2);
        if (needed[0] != 0) {
            results[0] =
                add ? grads[0]
                    : scatter(grads[0], dimension, where_to,
                              zeros(where_to.sizes(), grads[0].dtype(), grads[0].device()));
        }
        if (needed[1] != 0) {
            Tensor source = gather(grads[0], dimension, where_to);
            // Of several writes to one place only the last one counts.
            if (!add) source = multiply(source, last_writes(where_to, source.dtype()));
            results[1] = source;
        }
        return results;
    }
    void release() override { index.reset(); }

  private:
    // 1 where this position was the last to write its target, else 0.
    [[nodiscard]] Tensor last_writes(const Tensor& where_to, DType dtype) const {
        const GradModeGuard off(false);
        Shape steps = Shape::filled(where_to.dimensions(), 1);
        steps[dimension] = where_to.size(dimension);
        const Tensor position =
            expand(reshape(arange(0, static_cast<double>(where_to.size(dimension)), 1, DType::i64,
                                  where_to.device()),
                           steps),
                   where_to.sizes());
        const Tensor none = full(edges()[0].sizes, -1.0, DType::i64, where_to.device());
        const Tensor winner = scatter(none, dimension, where_to, contiguous(position));
        return cast(equal(gather(winner, dimension, where_to), position), dtype);
    }
};

Tensor scatter_into(const char* name, const Tensor& x, std::int64_t dimension, const Tensor& index,
                    const Tensor& source, bool add) {
    const int axis = normalize_dimension(name, dimension, x.dimensions());
    check_index_shape(name, x, axis, index);
    TEMPRA_CHECK(ShapeError, source.sizes() == index.sizes(),
                 "{}: source shape {} must equal index shape {}", name, source.sizes(),
                 index.sizes());
    TEMPRA_CHECK(DtypeError, source.dtype() == x.dtype(), "{}: dtypes {} and {} differ", name,
                 x.dtype(), source.dtype());
    const Tensor positions = checked_index(name, index, x.size(axis));
    // Where several terms may meet in one place, their sum is rounded once.
    const bool sums = add && index.dimensions() > 0 && index.size(axis) > 1;
    Tensor result;
    {
        const GradModeGuard off(false);
        const Tensor terms = sums ? widened(source) : source;
        const Tensor base = sums ? widened(x) : x;
        result = base.dtype() == x.dtype() ? clone(x) : base;
        launch(name, x, &KernelTable::scatter, terms.view(), std::int32_t{axis}, positions.view(),
               std::int32_t{add}, result.view());
        result = cast(result, x.dtype());
    }
    if (should_record({&x, &source})) {
        auto node = make_node<ScatterNode>({&x, &source});
        node->dimension = axis;
        node->add = add;
        node->index = SavedTensor::input(positions);
        attach(result, node);
    }
    return result;
}

}  // namespace

Tensor gather(const Tensor& x, std::int64_t dimension, const Tensor& index) {
    const int axis = normalize_dimension("gather", dimension, x.dimensions());
    check_index_shape("gather", x, axis, index);
    const Tensor positions = checked_index("gather", index, x.size(axis));
    const Tensor result = empty(index.sizes(), x.dtype(), x.device());
    launch("gather", x, &KernelTable::gather, x.view(), std::int32_t{axis}, positions.view(),
           result.view());
    if (should_record({&x})) {
        auto node = make_node<GatherNode>({&x});
        node->dimension = axis;
        node->index = SavedTensor::input(positions);
        attach(result, node);
    }
    return result;
}

Tensor scatter_add(const Tensor& x, std::int64_t dimension, const Tensor& index,
                   const Tensor& source) {
    return scatter_into("scatter_add", x, dimension, index, source, true);
}

Tensor scatter(const Tensor& x, std::int64_t dimension, const Tensor& index, const Tensor& source) {
    return scatter_into("scatter", x, dimension, index, source, false);
}

Tensor index_select(const Tensor& x, std::int64_t dimension, const Tensor& index) {
    const int axis = normalize_dimension("index_select", dimension, x.dimensions());
    // A gather whose index repeats along every other dimension.
    Shape lined_up = Shape::filled(x.dimensions(), 1);
    lined_up[axis] = index.numel();
    Shape sizes = x.sizes();
    sizes[axis] = index.numel();
    const Tensor picked = gather(x, axis, expand(reshape(index, lined_up), sizes));
    Shape final_sizes = x.sizes();
    final_sizes.erase(axis);
    for (int i = 0; i < index.dimensions(); ++i) final_sizes.insert(axis + i, index.size(i));
    return reshape(picked, final_sizes);
}

}  // namespace tempra
