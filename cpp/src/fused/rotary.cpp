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

namespace tempra {

namespace {

Tensor rotated(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
               bool interleaved, bool inverse) {
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    const KernelStatus status =
        launch_status("rotary", x.device(), x.dtype(), &KernelTable::rotary, unit_columns(x).view(),
                      positions.view(), cosines.view(), sines.view(), std::int32_t{interleaved},
                      std::int32_t{inverse}, result.view());
    TEMPRA_CHECK(ShapeError, status != kKernelIndexOutOfRange,
                 "rotary: a position is outside [0, {})", cosines.size(0));
    check_status(status, "rotary", x.dtype());
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

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines,
              const RotaryOptions& options) {
    TEMPRA_CHECK(ShapeError, x.dimensions() == 3,
                 "rotary: x has shape {}; needs [tokens, heads, head_dim]", x.sizes());
    TEMPRA_CHECK(ShapeError, positions.dimensions() == 1 && positions.size(0) == x.size(0),
                 "rotary: positions have shape {}; needs [{}]", positions.sizes(), x.size(0));
    TEMPRA_CHECK(DtypeError, positions.dtype() == DType::i64 || positions.dtype() == DType::i32,
                 "rotary: positions have dtype {}; needs i64 or i32", positions.dtype());
    TEMPRA_CHECK(DtypeError, cosines.dtype() == DType::f32 && sines.dtype() == DType::f32,
                 "rotary: cosines have dtype {}, sines {}; needs f32", cosines.dtype(),
                 sines.dtype());
    TEMPRA_CHECK(ShapeError,
                 cosines.dimensions() == 2 && cosines.sizes() == sines.sizes() &&
                     2 * cosines.size(1) <= x.size(2),
                 "rotary: cosines have shape {}, sines {}; needs [positions, at most {}] each",
                 cosines.sizes(), sines.sizes(), x.size(2) / 2);
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

}  // namespace tempra
