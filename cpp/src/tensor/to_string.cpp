#include <sstream>

#include "tempra/tensor.h"
#include "tensor/tensor_access.h"

namespace tempra {

namespace {

constexpr std::int64_t kEdgeItems = 3;      // shown at each end of a long dimension
constexpr std::int64_t kShownWhole = 1000;  // tensors up to this size are shown whole

void print_element(std::ostringstream& out, const Tensor& x) {
    if (x.dtype() == DType::boolean) {
        out << (x.item() != 0 ? "true" : "false");
    } else {
        out << x.item();
    }
}

// x[index] along the first dimension.
Tensor row_of(const Tensor& x, std::int64_t index) {
    Shape sizes = x.sizes();
    Strides strides = x.strides();
    const std::int64_t shift = index * strides[0];
    sizes.erase(0);
    strides.erase(0);
    return TensorAccess::alias(x, sizes, strides, TensorAccess::impl(x).offset + shift);
}

void print_values(std::ostringstream& out, const Tensor& x, bool shorten, int indent) {
    if (x.dimensions() == 0) {
        print_element(out, x);
        return;
    }
    const std::int64_t size = x.size(0);
    const bool innermost = x.dimensions() == 1;
    out << '[';
    for (std::int64_t i = 0; i < size; ++i) {
        if (i > 0)
            out << (innermost ? ", " : ",\n" + std::string(static_cast<size_t>(indent) + 1, ' '));
        if (shorten && size > 2 * kEdgeItems && i == kEdgeItems) {
            out << "...";
            i = size - kEdgeItems - 1;
            continue;
        }
        print_values(out, row_of(x, i), shorten, indent + 1);
    }
    out << ']';
}

}  // namespace

std::string to_string(const Tensor& tensor) {
    if (!tensor.defined()) return "tensor(undefined)";
    std::ostringstream out;
    out.precision(5);
    out << "tensor(";
    print_values(out, tensor.detach(), tensor.numel() > kShownWhole, 7);
    out << ", shape=" << tensor.sizes() << ", dtype=" << tensor.dtype();
    if (tensor.device().type != DeviceType::cpu) out << ", device=" << tensor.device();
    if (tensor.requires_grad()) out << ", requires_grad=true";
    out << ')';
    return out.str();
}

}  // namespace tempra
