// (a, b) -> (a cos - b sin, b cos + a sin); the gradient is rotated back by the same angle.
#include "tempra/fused/rotary.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/rows.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/indexing.h"
#include "tempra/ops/layout.h"
#include "tensor/tensor_access.h"

namespace tempra {

namespace {

// Writes x, rotated, to `result`, which may be x.
void rotate(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
            bool interleaved, bool inverse, const Tensor& result) {
    const KernelStatus status =
        launch_status("rotary", x.device(), x.dtype(), &KernelTable::rotary, x.view(),
                      positions.view(), cosines.view(), sines.view(), std::int32_t{interleaved},
                      std::int32_t{inverse}, result.view());
    TEMPRA_CHECK(ShapeError, status != kKernelIndexOutOfRange,
                 "rotary: a position is outside [0, {})", cosines.size(0));
    check_status(status, "rotary", x.dtype(), x.device());
}

Tensor rotated(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
               bool interleaved, bool inverse) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    rotate(unit_columns(x), positions, cosines, sines, interleaved, inverse, result);
    return result;
}

// The last heads of a packed buffer are values, which are not turned.
Tensor rotated_packed(const Tensor& qkv, const Tensor& positions, const Tensor& cosines,
                      const Tensor& sines, std::int64_t turning, std::int64_t head_dim,
                      bool interleaved, bool inverse, const Tensor& result) {
    const Shape sizes{qkv.size(0), qkv.size(1) / head_dim, head_dim};
    const Tensor from = reshape(qkv, sizes), to = reshape(result, sizes);
    rotate(narrow(from, 1, 0, turning), positions, cosines, sines, interleaved, inverse,
           narrow(to, 1, 0, turning));
    if (qkv.view().data != result.view().data) {
        const std::int64_t values = sizes[1] - turning;
        copy_(narrow(to, 1, turning, values), narrow(from, 1, turning, values));
    }
    return result;
}

struct RotaryNode : Node {
    SavedTensor positions, cosines, sines;
    bool interleaved = false;
    [[nodiscard]] const char* name() const override { return "rotary"; }
    void backward(BackwardContext& context) override {
        context.set(0, rotated(context.grad_output(), positions.get(name()), cosines.get(name()),
                               sines.get(name()), interleaved, true));
    }
    void release() override {
        positions.reset();
        cosines.reset();
        sines.reset();
    }
};

// The gradient is rotated where it lies, if nobody else holds it.
struct RotaryQkvNode : Node {
    SavedTensor positions, cosines, sines;
    std::int64_t turning = 0, head_dim = 0;
    bool interleaved = false;
    [[nodiscard]] const char* name() const override { return "rotary_qkv"; }
    void backward(BackwardContext& context) override {
        const Tensor g = context.take_grad_output();
        const bool in_place = TensorAccess::uniquely_owned(g) && g.is_contiguous();
        const Tensor result = in_place ? g : empty(g.sizes(), g.dtype(), g.device());
        context.set(
            0, rotated_packed(contiguous(g), positions.get(name()), cosines.get(name()),
                              sines.get(name()), turning, head_dim, interleaved, true, result));
    }
    void release() override {
        positions.reset();
        cosines.reset();
        sines.reset();
    }
};

// The last dimension as [half, 2] when interleaved, [2, half] otherwise.
Tensor composed_rotary(const Tensor& x, const Tensor& positions, const Tensor& cosines,
                       const Tensor& sines, bool interleaved) {
    const std::int64_t half = cosines.size(1);
    const Tensor cosine = cast(unsqueeze(index_select(cosines, 0, positions), 1), x.dtype());
    const Tensor sine = cast(unsqueeze(index_select(sines, 0, positions), 1), x.dtype());
    const Tensor turning = narrow(x, 2, 0, 2 * half);
    const Shape paired =
        interleaved ? Shape{x.size(0), x.size(1), half, 2} : Shape{x.size(0), x.size(1), 2, half};
    const int axis = interleaved ? 3 : 2;
    const Tensor pairs = reshape(turning, paired);
    const Tensor a = select(pairs, axis, 0);
    const Tensor b = select(pairs, axis, 1);
    const Tensor first = subtract(multiply(a, cosine), multiply(b, sine));
    const Tensor second = add(multiply(b, cosine), multiply(a, sine));
    const Tensor joined = reshape(stack({first, second}, axis), turning.sizes());
    if (2 * half == x.size(2)) return joined;
    return concatenate({joined, narrow(x, 2, 2 * half, x.size(2) - 2 * half)}, 2);
}

void check_tables(const char* op, std::int64_t tokens, std::int64_t head_dim,
                  const Tensor& positions, const Tensor& cosines, const Tensor& sines) {
    TEMPRA_CHECK(ShapeError, positions.dimensions() == 1 && positions.size(0) == tokens,
                 "{}: positions have shape {}; needs [{}]", op, positions.sizes(), tokens);
    TEMPRA_CHECK(DtypeError, positions.dtype() == DType::i64 || positions.dtype() == DType::i32,
                 "{}: positions have dtype {}; needs i64 or i32", op, positions.dtype());
    TEMPRA_CHECK(DtypeError, cosines.dtype() == DType::f32 && sines.dtype() == DType::f32,
                 "{}: cosines have dtype {}, sines {}; needs f32", op, cosines.dtype(),
                 sines.dtype());
    TEMPRA_CHECK(ShapeError,
                 cosines.dimensions() == 2 && cosines.sizes() == sines.sizes() &&
                     2 * cosines.size(1) <= head_dim,
                 "{}: cosines have shape {}, sines {}; needs [positions, at most {}] each", op,
                 cosines.sizes(), sines.sizes(), head_dim / 2);
}

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
              const RotaryOptions& options) {
    TEMPRA_CHECK(ShapeError, x.dimensions() == 3,
                 "rotary: x has shape {}; needs [tokens, heads, head_dim]", x.sizes());
    check_tables("rotary", x.size(0), x.size(2), positions, cosines, sines);
    if (is_composed()) {
        return composed_rotary(x, positions, cosines, sines, options.interleaved);
    }
    const bool recording = should_record({&x});
    const GradModeGuard off(false);
    const Tensor result =
        rotated(x, positions, contiguous(cosines), contiguous(sines), options.interleaved, false);
    if (recording) {
        auto node = make_node<RotaryNode>({&x});
        node->positions = SavedTensor::input(positions);
        node->cosines = SavedTensor::input(contiguous(cosines));
        node->sines = SavedTensor::input(contiguous(sines));
        node->interleaved = options.interleaved;
        attach(result, node);
    }
    return result;
}

Tensor rotary_qkv(const Tensor& qkv, const Tensor& positions, const Tensor& cosines,
                  const Tensor& sines, std::int64_t heads, std::int64_t kv_heads,
                  std::int64_t head_dim, const RotaryOptions& options) {
    TEMPRA_CHECK(ShapeError,
                 heads > 0 && kv_heads > 0 && head_dim > 0 && qkv.dimensions() == 2 &&
                     qkv.size(1) == (heads + 2 * kv_heads) * head_dim,
                 "rotary_qkv: qkv has shape {}; needs [tokens, ({} + 2 * {}) * {}]", qkv.sizes(),
                 heads, kv_heads, head_dim);
    check_tables("rotary_qkv", qkv.size(0), head_dim, positions, cosines, sines);
    const std::int64_t turning = heads + kv_heads;
    if (is_composed()) {
        const Tensor all = reshape(qkv, {qkv.size(0), turning + kv_heads, head_dim});
        const Tensor turned = composed_rotary(narrow(all, 1, 0, turning), positions, cosines, sines,
                                              options.interleaved);
        return reshape(concatenate({turned, narrow(all, 1, turning, kv_heads)}, 1), qkv.sizes());
    }
    const bool recording = should_record({&qkv});
    const GradModeGuard off(false);
    const Tensor result = rotated_packed(contiguous(qkv), positions, contiguous(cosines),
                                         contiguous(sines), turning, head_dim, options.interleaved,
                                         false, empty(qkv.sizes(), qkv.dtype(), qkv.device()));
    if (recording) {
        auto node = make_node<RotaryQkvNode>({&qkv});
        node->positions = SavedTensor::input(positions);
        node->cosines = SavedTensor::input(contiguous(cosines));
        node->sines = SavedTensor::input(contiguous(sines));
        node->turning = turning;
        node->head_dim = head_dim;
        node->interleaved = options.interleaved;
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
