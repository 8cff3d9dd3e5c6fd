// Binary elementwise operations, where and clamp: broadcasting, promotion, gradients.
#include <cmath>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "dispatch/launch.h"
#include "ops/widened.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/elementwise.h"
#include "tempra/ops/layout.h"
#include "tensor/dtype_range.h"

namespace tempra {

namespace {

constexpr const char* kNames[] = {"add",           "subtract",    "multiply",   "divide",
                                  "power",         "maximum",     "minimum",    "equal",
                                  "not_equal",     "less",        "less_equal", "greater",
                                  "greater_equal", "logical_and", "logical_or", "logical_xor"};
static_assert(std::size(kNames) == static_cast<size_t>(BinaryOp::count_));

const char* name_of(BinaryOp op) { return kNames[static_cast<int>(op)]; }

bool is_logical(BinaryOp op) { return op >= BinaryOp::logical_and; }
bool gives_bool(BinaryOp op) { return op >= BinaryOp::equal; }

DType promote(DType a, DType b) {
    if (a == b) return a;
    if (is_floating(a) && is_floating(b)) {
        return a == DType::f64 || b == DType::f64 ? DType::f64 : DType::f32;
    }
    if (is_floating(a)) return a;
    if (is_floating(b)) return b;
    if (a == DType::boolean) return b;
    if (b == DType::boolean) return a;
    return DType::i64;
}

// Integer kernels exist for i64 and i32; the narrow storage types compute as i64.
DType arithmetic_dtype(DType dtype) {
    switch (dtype) {
        case DType::u32:
        case DType::u16:
        case DType::u8:
        case DType::boolean: return DType::i64;
        default: return dtype;
    }
}

// The gradient a tie-sharing extreme passes to `x`: 1 where x wins, 1/2 where both are equal.
Tensor share_of_extreme(const Tensor& x, const Tensor& other, bool maximum) {
    const Tensor wins = maximum ? greater(x, other) : less(x, other);
    const Tensor ties = multiply(cast(equal(x, other), x.dtype()), scalar_like(x, 0.5));
    return add(cast(wins, x.dtype()), ties);
}

struct BinaryNode : PrimitiveNode {
    BinaryOp op = BinaryOp::add;
    SavedTensor a, b;  // saved only where the rule reads them

    [[nodiscard]] const char* name() const override { return name_of(op); }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        std::vector<Tensor> results(2);
        for (int i = 0; i < 2; ++i) {
            if (needed[i] != 0) results[i] = sum_to(gradient(grads[0], i == 0), edges()[i].sizes);
        }
        return results;
    }
    void release() override {
        a.reset();
        b.reset();
    }

  private:
    // May be f32 where the operands are narrower: it is rounded when all is done, sums included.
    [[nodiscard]] Tensor gradient(const Tensor& g, bool first) const {
        switch (op) {
            case BinaryOp::add: return g;
            case BinaryOp::subtract: return first ? g : negative(g);
            case BinaryOp::multiply: return multiply(g, (first ? b : a).get(name()));
            case BinaryOp::divide: {
                if (first) return divide(g, b.get(name()));
                const Tensor divisor = widened(b.get(name()));
                const Tensor quotient = divide(widened(a.get(name())), divisor);
                return negative(multiply(divide(widened(g), divisor), quotient));
            }
            case BinaryOp::power: return power_gradient(widened(g), first);
            case BinaryOp::maximum:
            case BinaryOp::minimum: {
                const Tensor& x = (first ? a : b).get(name());
                const Tensor& y = (first ? b : a).get(name());
                return multiply(g, share_of_extreme(x, y, op == BinaryOp::maximum));
            }
            default: return {};
        }
    }

    // d/da = b a^(b-1); d/db = a^b log a, taken as 0 where a is 0.
    [[nodiscard]] Tensor power_gradient(const Tensor& g, bool first) const {
        const Tensor base = widened(a.get(name()));
        const Tensor exponent = widened(b.get(name()));
        if (first) {
            const Tensor lowered = power(base, subtract(exponent, scalar_like(exponent, 1.0)));
            return multiply(g, multiply(exponent, lowered));
        }
        const Tensor zero = scalar_like(base, 0.0);
        const Tensor at_zero = equal(base, zero);
        const Tensor safe = where(at_zero, scalar_like(base, 1.0), base);
        return multiply(g, multiply(power(base, exponent), log(safe)));
    }
};

Tensor binary(BinaryOp op, const Tensor& left, const Tensor& right) {
    DType dtype =
        is_logical(op) ? DType::boolean : arithmetic_dtype(promote(left.dtype(), right.dtype()));
    if ((op == BinaryOp::divide || op == BinaryOp::power) && !is_floating(dtype))
        dtype = DType::f32;
    const Tensor a = cast(left, dtype);
    const Tensor b = cast(right, dtype);
    const Shape sizes = broadcast_shapes(name_of(op), a.sizes(), b.sizes());
    const Tensor result = empty(sizes, gives_bool(op) ? DType::boolean : dtype, a.device());
    {
        const GradModeGuard off(false);
        launch(name_of(op), a, &KernelTable::binary, op, expand(a, sizes).view(),
               expand(b, sizes).view(), result.view());
    }
    if (!gives_bool(op) && should_record({&a, &b})) {
        auto node = make_node<BinaryNode>({&a, &b});
        node->op = op;
        if (op != BinaryOp::add && op != BinaryOp::subtract) {
            const bool all = op != BinaryOp::multiply;
            if (all || b.requires_grad()) node->a = SavedTensor::input(a);
            if (all || a.requires_grad()) node->b = SavedTensor::input(b);
        }
        attach(result, node);
    }
    return result;
}

struct WhereNode : PrimitiveNode {
    SavedTensor condition;
    [[nodiscard]] const char* name() const override { return "where"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& needed) override {
        const Tensor& mask = condition.get(name());
        const Tensor zero = scalar_like(grads[0], 0.0);
        std::vector<Tensor> results(2);
        if (needed[0] != 0) results[0] = sum_to(where(mask, grads[0], zero), edges()[0].sizes);
        if (needed[1] != 0) results[1] = sum_to(where(mask, zero, grads[0]), edges()[1].sizes);
        return results;
    }
    void release() override { condition.reset(); }
};

struct ClampNode : PrimitiveNode {
    SavedTensor input;
    double low = 0, high = 0;
    [[nodiscard]] const char* name() const override { return "clamp"; }
    std::vector<Tensor> backward_graph(const std::vector<Tensor>& grads,
                                       const std::vector<char>& /*needed*/) override {
        const Tensor& x = input.get(name());
        const Tensor inside =
            logical_and(greater_equal(x, scalar_like(x, low)), less_equal(x, scalar_like(x, high)));
        return {where(inside, grads[0], scalar_like(grads[0], 0.0))};
    }
    void release() override { input.reset(); }
};

}  // namespace

Tensor scalar_like(const Tensor& like, double value) {
    const bool whole = value == std::nearbyint(value);
    const bool fits = is_floating(like.dtype()) || (whole && like.dtype() != DType::boolean &&
                                                    is_representable(value, like.dtype()));
    const DType wider = whole && is_representable(value, DType::i64) ? DType::i64 : DType::f32;
    return full({}, value, fits ? like.dtype() : wider, like.device());
}

Tensor add(const Tensor& a, const Tensor& b) { return binary(BinaryOp::add, a, b); }
Tensor subtract(const Tensor& a, const Tensor& b) { return binary(BinaryOp::subtract, a, b); }
Tensor multiply(const Tensor& a, const Tensor& b) { return binary(BinaryOp::multiply, a, b); }
Tensor divide(const Tensor& a, const Tensor& b) { return binary(BinaryOp::divide, a, b); }
Tensor power(const Tensor& a, const Tensor& b) { return binary(BinaryOp::power, a, b); }
Tensor maximum(const Tensor& a, const Tensor& b) { return binary(BinaryOp::maximum, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return binary(BinaryOp::minimum, a, b); }
Tensor equal(const Tensor& a, const Tensor& b) { return binary(BinaryOp::equal, a, b); }
Tensor not_equal(const Tensor& a, const Tensor& b) { return binary(BinaryOp::not_equal, a, b); }
Tensor less(const Tensor& a, const Tensor& b) { return binary(BinaryOp::less, a, b); }
Tensor less_equal(const Tensor& a, const Tensor& b) { return binary(BinaryOp::less_equal, a, b); }
Tensor greater(const Tensor& a, const Tensor& b) { return binary(BinaryOp::greater, a, b); }
Tensor greater_equal(const Tensor& a, const Tensor& b) {
    return binary(BinaryOp::greater_equal, a, b);
}
Tensor logical_and(const Tensor& a, const Tensor& b) { return binary(BinaryOp::logical_and, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return binary(BinaryOp::logical_or, a, b); }
Tensor logical_xor(const Tensor& a, const Tensor& b) { return binary(BinaryOp::logical_xor, a, b); }

Tensor where(const Tensor& condition, const Tensor& if_true, const Tensor& if_false) {
    const DType dtype = promote(if_true.dtype(), if_false.dtype());
    const Tensor mask = cast(condition, DType::boolean);
    const Tensor a = cast(if_true, dtype);
    const Tensor b = cast(if_false, dtype);
    const Shape sizes =
        broadcast_shapes("where", mask.sizes(), broadcast_shapes("where", a.sizes(), b.sizes()));
    const Tensor result = empty(sizes, dtype, a.device());
    {
        const GradModeGuard off(false);
        launch("where", result, &KernelTable::where, expand(mask, sizes).view(),
               expand(a, sizes).view(), expand(b, sizes).view(), result.view());
    }
    if (should_record({&a, &b})) {
        auto node = make_node<WhereNode>({&a, &b});
        node->condition = SavedTensor::input(mask);
        attach(result, node);
    }
    return result;
}

Tensor clamp(const Tensor& x, double low, double high) {
    TEMPRA_CHECK(ShapeError, low <= high, "clamp: low {} is not below high {}", low, high);
    const Tensor result = empty(x.sizes(), x.dtype(), x.device());
    launch("clamp", x, &KernelTable::clamp, x.view(), low, high, result.view());
    if (should_record({&x})) {
        auto node = make_node<ClampNode>({&x});
        node->input = SavedTensor::input(x);
        node->low = low;
        node->high = high;
        attach(result, node);
    }
    return result;
}

}  // namespace tempra
