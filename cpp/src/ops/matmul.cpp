#include "tempra/ops/matmul.h"

#include <algorithm>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

Tensor transposed(const Tensor& x) { return transpose(x, -1, -2); }

// The kernel wants one of the last two strides to be 1, and no zero stride there but for size 1.
Tensor gemm_ready(const Tensor& x) {
    const int last = x.dimensions() - 1;
    const Strides& strides = x.strides();
    const auto unit = [&](int i) { return x.size(i) == 1 || strides[i] == 1; };
    const auto steps_over = [&](int i, int inner) {
        return x.size(i) == 1 || strides[i] >= std::max<std::int64_t>(x.size(inner), 1);
    };
    const bool row_major = unit(last) && steps_over(last - 1, last);
    const bool column_major = unit(last - 1) && steps_over(last, last - 1);
    return row_major || column_major ? x : clone(x);
}

struct MatmulNode : PrimitiveNode {
    SavedTensor a, b;
    [[nodiscard]] const char* name() const override { return "matmul"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        std::vector<Tensor> results(2);
        if (needed[0] != 0) {
            results[0] = sum_to(matmul(grads[0], transposed(b.get(name()))), edges()[0].sizes);
        }
        if (needed[1] != 0) {
            results[1] = sum_to(matmul(transposed(a.get(name())), grads[0]), edges()[1].sizes);
        }
        return results;
    }
    void release() override {
        a.reset();
        b.reset();
    }
};

// Both operands at least 2-d.
Tensor batched_matmul(const Tensor& a, const Tensor& b) {
    const Shape batch_a(std::span(a.sizes().begin(), static_cast<size_t>(a.dimensions() - 2)));
    const Shape batch_b(std::span(b.sizes().begin(), static_cast<size_t>(b.dimensions() - 2)));
    Shape sizes = broadcast_shapes("matmul", batch_a, batch_b);
    const std::int64_t batches = sizes.numel();
    Shape full_a = sizes;
    Shape full_b = sizes;
    full_a.push_back(a.size(-2));
    full_a.push_back(a.size(-1));
    full_b.push_back(b.size(-2));
    full_b.push_back(b.size(-1));
    sizes.push_back(a.size(-2));
    sizes.push_back(b.size(-1));
    const Tensor result = empty(sizes, a.dtype(), a.device());
    {
        const GradModeGuard off(false);
        GemmArguments arguments;
        const Tensor ready_a =
            gemm_ready(reshape(expand(a, full_a), {batches, a.size(-2), a.size(-1)}));
        const Tensor ready_b =
            gemm_ready(reshape(expand(b, full_b), {batches, b.size(-2), b.size(-1)}));
        const Tensor flat = reshape(result, {batches, a.size(-2), b.size(-1)});
        arguments.a = ready_a.view();
        arguments.b = ready_b.view();
        arguments.c = flat.view();
        launch("matmul", a, &KernelTable::gemm, arguments);
    }
    if (should_record({&a, &b})) {
        auto node = make_node<MatmulNode>({&a, &b});
        if (b.requires_grad()) node->a = SavedTensor::input(a);
        if (a.requires_grad()) node->b = SavedTensor::input(b);
        attach(result, node);
    }
    return result;
}

}  // namespace

Tensor matmul(const Tensor& left, const Tensor& right) {
    TEMPRA_CHECK(ShapeError, left.dimensions() >= 1 && right.dimensions() >= 1,
                 "matmul: shapes {} and {}: a 0-d tensor has no rows", left.sizes(), right.sizes());
    TEMPRA_CHECK(DtypeError, is_floating(left.dtype()) && is_floating(right.dtype()),
                 "matmul: dtypes {} and {} given; needs floating-point tensors", left.dtype(),
                 right.dtype());
    DType dtype = left.dtype();
    if (dtype != right.dtype()) {
        dtype = dtype == DType::f64 || right.dtype() == DType::f64 ? DType::f64 : DType::f32;
    }
    const bool vector_left = left.dimensions() == 1;
    const bool vector_right = right.dimensions() == 1;
    const Tensor a = cast(vector_left ? unsqueeze(left, 0) : left, dtype);
    const Tensor b = cast(vector_right ? unsqueeze(right, 1) : right, dtype);
    TEMPRA_CHECK(ShapeError, a.size(-1) == b.size(-2),
                 "matmul: shapes {} and {}: {} columns on the left, {} rows on the right",
                 left.sizes(), right.sizes(), a.size(-1), b.size(-2));
    Tensor result = batched_matmul(a, b);
    if (vector_right) result = squeeze(result, -1);
    if (vector_left) result = squeeze(result, vector_right ? -1 : -2);
    return result;
}

}  // namespace tempra
