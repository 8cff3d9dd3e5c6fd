// out[t] = weight[indices[t]];  dweight[indices[t]] += dout[t], rows in order of t
#include "tempra/fused/embedding.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "fused/parameter_access.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"

namespace tempra {

namespace {

struct EmbeddingNode : Node {
    SavedTensor indices;
    [[nodiscard]] const char* name() const override { return "embedding"; }
    void backward(BackwardContext& context) override {
        const Tensor rows = as_rows(context.grad_output());
        launch(name(), rows, &KernelTable::embedding_backward, rows.view(),
               indices.get(name()).view(), context.gradient_buffer(0).view());
    }
    void release() override { indices.reset(); }
};

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& indices, DType dtype) {
    TEMPRA_CHECK(ShapeError, weight.dimensions() == 2,
                 "embedding: weight has shape {}; needs [vocabulary, width]", weight.sizes());
    TEMPRA_CHECK(DtypeError, indices.dtype() == DType::i64 || indices.dtype() == DType::i32,
                 "embedding: indices have dtype {}; needs i64 or i32", indices.dtype());
    TEMPRA_CHECK(
        DtypeError, dtype == weight.dtype() || (is_half(dtype) && weight.dtype() == DType::f32),
        "embedding: result dtype {} asked for with a weight of {}; it must be the same, or "
        "bf16 or f16 with f32",
        dtype, weight.dtype());
    if (is_composed()) return cast(index_select(weight, 0, indices), dtype);
    Shape sizes = indices.sizes();
    sizes.push_back(weight.size(1));
    const Tensor flat_indices = reshape(contiguous(indices), {indices.numel()});
    const Tensor table = parameter_for(weight, dtype);
    const Tensor rows = empty({indices.numel(), weight.size(1)}, dtype, weight.device());
    const KernelStatus status =
        launch_status("embedding", weight.device(), dtype, &KernelTable::embedding, table.view(),
                      flat_indices.view(), rows.view());
    TEMPRA_CHECK(ShapeError, status != kKernelIndexOutOfRange,
                 "embedding: an index is outside [0, {})", weight.size(0));
    check_status(status, "embedding", dtype, weight.device());
    const bool recording = should_record({&weight});
    const GradModeGuard off(false);
    const Tensor result = reshape(rows, sizes);
    if (recording) {
        auto node = make_node<EmbeddingNode>({&weight});
        node->indices = SavedTensor::input(flat_indices);
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
